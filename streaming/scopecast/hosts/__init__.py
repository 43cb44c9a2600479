"""Adapters of the software where frames are born; each imports its host lazily."""
