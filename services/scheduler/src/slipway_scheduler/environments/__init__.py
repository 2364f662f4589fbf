"""Environments (worker groups) and the group tokens with which machines join them."""
