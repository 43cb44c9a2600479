"""Image files: what one is, which reader opens it, and the readers. Knows nothing of viewers."""
