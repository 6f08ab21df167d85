"""Bench hardware: programs, power, consoles and provisioning."""
