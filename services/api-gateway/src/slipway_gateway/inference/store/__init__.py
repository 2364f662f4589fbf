"""SQL of inference: inference-builder's published views, limited to what the caller may see."""
