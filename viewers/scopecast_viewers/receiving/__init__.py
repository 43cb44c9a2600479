"""What comes from a publisher: its source, its streams as they grow, and their state."""
