"""Which queued execution goes to which worker, and why one waits."""
