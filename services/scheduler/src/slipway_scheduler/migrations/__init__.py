"""The scheduler's schema, one revision after the other."""
