"""The data path of inference: a proxy engine driven by the builder's routing table (`slipway-router`)."""
