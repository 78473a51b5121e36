"""What the console touches of the outside: files and the broker's TLS."""
