"""How the keeper guards itself while it runs: its walls, where its keys are, and what it locks itself on."""
