"""Unix sockets: a server that admits by the kernel's word, and a client."""
