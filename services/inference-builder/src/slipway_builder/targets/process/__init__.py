"""The target kind `process`: servers as processes of this machine, where there is neither cluster nor engine."""
