"""AsyncClient and its sub-clients, one file a service."""
