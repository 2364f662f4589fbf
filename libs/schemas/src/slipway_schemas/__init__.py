"""Pydantic models shared by services: enums, lifecycles, internal API models, events, attempt documents, log chunks."""
