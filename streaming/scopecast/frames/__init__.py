"""What a frame is: its axes, its array, its annotations, and the stream that it is part of."""
