"""Small real servers that stand in for the services around the one under test."""
