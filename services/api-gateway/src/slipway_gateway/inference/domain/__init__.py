"""Values and rules of deployments, versions and endpoints, as the gateway knows them."""
