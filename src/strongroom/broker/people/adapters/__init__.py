"""What the directory of people touches: its database, its keys, its small files."""
