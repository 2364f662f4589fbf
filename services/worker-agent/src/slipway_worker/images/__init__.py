"""Container images: pulled only when they are not there."""
