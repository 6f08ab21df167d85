"""Which console, switch, meter channel, network port and agent are the same board."""
