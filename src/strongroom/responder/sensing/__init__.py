"""What the responder hears with, beside its guard: the log, other sensors, the kernel; and whether all are heard."""
