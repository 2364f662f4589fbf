"""What routers count, kept by the minute."""
