"""Data: connected stores, uploads, datums with their properties, aliases."""
