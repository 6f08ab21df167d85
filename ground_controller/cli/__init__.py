"""`hil` commands of the ground side."""
