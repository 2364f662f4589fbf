"""The routing table of each target, and the routers that follow it."""
