"""Nodes as the controller reaches them."""
