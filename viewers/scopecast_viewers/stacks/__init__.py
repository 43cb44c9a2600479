"""Planes by their place, as an array, and the memory and scratch file that they are in."""
