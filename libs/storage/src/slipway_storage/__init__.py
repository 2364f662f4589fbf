"""ObjectStore protocol and its providers: s3, local, memory; URIs, key layout, multipart, checksums."""
