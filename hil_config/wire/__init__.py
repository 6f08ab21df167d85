"""Wire contracts: everything a board needs to talk to the bench (msgspec and numpy only)."""
