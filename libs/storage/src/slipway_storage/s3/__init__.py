"""Any S3-compatible service."""
