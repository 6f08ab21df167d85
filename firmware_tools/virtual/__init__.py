"""A board that is an emulated machine: built from Debian packages, flashed, powered and talked to like a real one."""
