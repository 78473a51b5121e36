"""nft, ip, and the gate's record on the disk."""
