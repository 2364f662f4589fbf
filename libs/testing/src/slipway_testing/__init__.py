"""pytest plugin: servers, template database, factories, conformance suites, the repository's own lint rules."""
