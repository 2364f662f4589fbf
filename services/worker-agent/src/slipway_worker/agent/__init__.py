"""Membership of the platform: registration, sync, adoption of runs, draining."""
