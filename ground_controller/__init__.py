"""The ground side: schedules, twin, policies, control loop, record and report."""
