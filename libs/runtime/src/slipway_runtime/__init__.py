"""The container contract, and the runtimes that can run an attempt."""
