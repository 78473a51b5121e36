"""What collectors touch: the kernel's files, folders of weights, the network, the keeper's socket."""
