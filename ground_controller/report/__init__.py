"""A run in numbers: metrics from the journal, a table, a page."""
