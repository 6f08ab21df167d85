"""Sensor drivers: one small file each, found by name in `registry`."""
