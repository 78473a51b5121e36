"""Serves SL3-ART-01, SL3-ART-06, SL4-ARA-01 and SL3-OOP-01: attacks that are really carried out, and what stopped them.

Each attack is a function over a scratch deployment with real processes. It first shows that the honest act works by
the very same way; then it tries, and says which codes it may be refused with. Whatever else comes back is `broken`.
"""
