"""What a board's power can be changed with: one small file an actuator, applied, read back, and put back."""
