"""Deployments, images and endpoints; today its chassis and health."""
