"""One verifier for each kind of evidence. A verifier says whether evidence is genuine, never whether it is wanted."""
