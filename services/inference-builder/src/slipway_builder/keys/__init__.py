"""Keys with which consumers call endpoints."""
