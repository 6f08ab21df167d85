"""Contact plans, elements and ephemerides in the formats of others: one file a format, found by name in `registry`."""
