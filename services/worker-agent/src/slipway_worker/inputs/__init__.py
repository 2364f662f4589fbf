"""Input files: fetched, checked, reported, laid out as the run expects them."""
