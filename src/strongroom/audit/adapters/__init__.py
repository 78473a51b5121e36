"""Where the log meets files, SQLite and sockets."""
