"""What people write: bench and campaign files (pydantic; ground only)."""
