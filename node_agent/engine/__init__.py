"""Trunk steps, expert calls and the threads that serve them."""
