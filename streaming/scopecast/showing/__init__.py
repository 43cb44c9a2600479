"""Files on their way to a viewer: shown at once, watched for, or replayed."""
