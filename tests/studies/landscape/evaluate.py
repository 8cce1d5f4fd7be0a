"""Never run: the simulated jobs give the metric themselves."""
