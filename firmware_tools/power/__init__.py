"""Power switches, one small file each, and the proof that off is off."""
