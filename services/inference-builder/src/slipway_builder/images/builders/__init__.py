"""The ways to build an image."""
