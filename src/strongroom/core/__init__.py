"""The nouns that every part shares: identifiers, digests, canonical JSON, signed envelopes, time, secrets, errors.

Imports nothing else of ours. If a helper wants to live here, it probably belongs to a shelf.
"""
