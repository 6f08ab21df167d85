"""Many simulated campaigns at once, their figures in one table."""
