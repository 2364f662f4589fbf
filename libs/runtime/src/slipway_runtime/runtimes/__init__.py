"""Ways to run an attempt: `docker`, `process` and `fake` behind one protocol."""
