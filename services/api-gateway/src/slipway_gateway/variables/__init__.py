"""Environment variables that belong to an owner: those of all its projects, and named groups."""
