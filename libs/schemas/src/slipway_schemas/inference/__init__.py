"""Wire models of inference: targets, deployments and their versions, and the routing table."""
