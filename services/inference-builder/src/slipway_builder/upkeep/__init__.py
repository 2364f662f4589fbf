"""Upkeep: what builders leave that are killed, and what nothing refers to any more, is taken away."""
