"""Projects, their variables and secrets."""
