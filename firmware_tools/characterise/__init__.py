"""What one board takes and how warm it gets, idle and under load, in a room of a known temperature."""
