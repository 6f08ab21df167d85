"""Studies: questions answered by many modelled runs, each by one command with a table, plots and what is not shown."""
