"""How the platform is, for administrators."""
