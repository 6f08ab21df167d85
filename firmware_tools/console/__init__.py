"""Serial consoles: one process owns the line, always reads it, logs it, and lets others attach."""
