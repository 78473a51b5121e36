"""The agent (SL4-WTU-01): runs inside, makes the recipient key, quotes, opens the weights, starts the command."""
