"""Repositories, commits, ad-hoc packages and archives."""
