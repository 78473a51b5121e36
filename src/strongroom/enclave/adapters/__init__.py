"""What touches the kernel: namespaces, mounts, Landlock, seccomp, secret memory, processes, facts."""
