"""Archive: segments written during the run, their index, and reading them back."""
