"""Streams on another machine: what crosses, how it is encoded, and at which pace."""
