"""The keeper's process while it waits for custodians: the door that it serves at, and what it opens in the end."""
