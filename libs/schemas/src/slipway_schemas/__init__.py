"""Pydantic models shared by services: ids, enums, lifecycles, internal API models, events, the attempt document, log chunks."""
