"""Looking at a run while it goes on, or afterwards: everything comes from its journal and schedule file."""
