"""Workers: registration, sync, leases."""
