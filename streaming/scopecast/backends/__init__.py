"""Backends: filter a batch by extension, hand arrays to a publisher, or files to a storage, by name."""
