"""What runs use of the machine: measured, kept for a while, sent."""
