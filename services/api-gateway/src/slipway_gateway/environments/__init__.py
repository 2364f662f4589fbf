"""Environments as users see them; the scheduler owns them."""
