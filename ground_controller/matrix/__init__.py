"""Many runs of one campaign: order, state on disk, stop rule, table."""
