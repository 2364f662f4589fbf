"""From the shim's raw spool to the log service: redacted, cut into lines, sent until durable."""
