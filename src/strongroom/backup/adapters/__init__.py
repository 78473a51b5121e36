"""What touches files, the databases and the network: making a backup, reading one, and putting one back."""
