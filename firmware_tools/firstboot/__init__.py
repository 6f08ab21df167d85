"""What a board is told on its first boot, put onto its boot partition before it is switched on."""
