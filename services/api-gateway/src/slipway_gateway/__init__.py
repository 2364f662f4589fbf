"""Public API, identity, projects, code, data and web pages."""
