"""Writing disk images so that "done" means read back from the medium and found equal."""
