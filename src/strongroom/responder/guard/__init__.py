"""The guard: a small process that answers the kernel for guarded files, and nothing else.

It is apart from the rest of the responder, so that nothing which takes long there, or hangs, keeps an opener waiting.
"""
