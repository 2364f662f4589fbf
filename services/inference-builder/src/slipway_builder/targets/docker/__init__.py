"""The target kind `docker`: containers of the engine of one host."""
