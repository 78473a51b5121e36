"""The agent inside a machine: the same as everywhere, and it quotes the boot beside its launch."""
