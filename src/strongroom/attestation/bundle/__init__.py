"""The collateral bundle: read from makers' files, proven, put together, kept, and looked at for what will end."""
