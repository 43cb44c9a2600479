"""The soak: producers and viewers that come, stop, go on and die at random, and what must hold in the end."""
