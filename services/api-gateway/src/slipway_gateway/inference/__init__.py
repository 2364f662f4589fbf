"""The public API of inference: requests become drafts for inference-builder, lists come from its published views."""
