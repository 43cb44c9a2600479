"""Frames in shared memory: a segment, how the system provides it, the ring in it, and copying. Knows no peers."""
