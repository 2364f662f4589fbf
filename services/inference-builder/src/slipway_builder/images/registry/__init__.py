"""Image registries, by the OCI distribution specification."""
