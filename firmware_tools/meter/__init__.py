"""Instruments in a board's supply line: a small file each that reads watts."""
