"""Service chassis: settings, ServiceSpec and supervisor, HTTP clients, service auth, errors, logging, metrics, health, clock, provider registry, pagination."""
