"""Who forwards to whom, and when: routes over snapshots, over time, and over contact plans."""
