"""Where the agent meets its platform."""
