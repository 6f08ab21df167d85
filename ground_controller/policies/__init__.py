"""Policies: pure functions from a view of the world to placements and selections, with a reason."""
