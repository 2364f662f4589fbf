"""What others may read of inference."""
