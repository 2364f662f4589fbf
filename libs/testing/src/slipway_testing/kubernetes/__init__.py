"""A real Kubernetes of one node for tests, in a network namespace of its own."""
