"""The run directory: which publishers and viewers are alive, and cleaning up after crashed ones."""
