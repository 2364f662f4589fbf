"""Secrets, encrypted at rest under one key of the installation."""
