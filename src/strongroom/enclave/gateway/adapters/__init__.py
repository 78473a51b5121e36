"""The gateway's sockets, files and libraries."""
