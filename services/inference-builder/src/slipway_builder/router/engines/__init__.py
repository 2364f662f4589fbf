"""What serves requests: HAProxy, or the relay where HAProxy is not installed."""
