"""What a frame is: its axes, its array, the documents and regions that lie on it, the stream that it is of."""
