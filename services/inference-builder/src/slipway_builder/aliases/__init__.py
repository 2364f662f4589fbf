"""Aliases: movable names of versions, with their history."""
