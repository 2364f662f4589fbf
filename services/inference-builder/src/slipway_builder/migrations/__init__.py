"""The schema of inference-builder, one revision after the other."""
