"""Where the client touches the world: a person's folder, and HTTP over mutual TLS."""
