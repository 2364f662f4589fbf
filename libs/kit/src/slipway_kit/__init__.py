"""Service chassis: what every service is built on. Import from the modules, for example `slipway_kit.errors`."""
