"""What the responder does to the world: the guard's process, the keeper's socket, gates, its record."""
