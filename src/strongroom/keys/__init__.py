"""Serves SL2-WST-01 and SL2-WST-02: 256-bit encryption, keys under management, released only on authentication.

Root key -> epoch key -> random key-encryption key for each model -> data key for each version (SP 800-57 words).
Every wrap binds its purpose, so a wrapped key can't be moved to another model, version, epoch or role.
Key-encryption keys are random, never derived: what is derived from a root can't be destroyed on its own.
"""
