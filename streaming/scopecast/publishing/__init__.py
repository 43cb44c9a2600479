"""Publishing: a frame's way into the ring and to each receiver, and the accounts of it."""
