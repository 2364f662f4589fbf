"""Output files: uploaded while the run goes on and at its end, then registered."""
