"""The run directory: who is alive on this machine, and what the dead left."""
