"""Users, organizations, tokens and login."""
