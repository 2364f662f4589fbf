"""HTTP clients: the one place that imports httpx and aiohttp."""
