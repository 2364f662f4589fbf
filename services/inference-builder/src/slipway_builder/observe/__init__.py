"""What is seen of endpoints: what routers count, kept by the minute, and what replicas write."""
