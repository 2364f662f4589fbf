"""A directory as an object store, with URLs that it signs and serves itself."""
