"""What runs use of their machines: series of samples."""
