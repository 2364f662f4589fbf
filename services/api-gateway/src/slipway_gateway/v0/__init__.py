"""The shared vocabulary of the compatible API. Only `*/api_v0.py` may import it."""
