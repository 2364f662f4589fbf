"""Log ingest, live tail, archive, metadata series and retention."""
