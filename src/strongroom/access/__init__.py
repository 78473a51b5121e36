"""Serves SL2-WAC-01, SL3-WAC-01 and SL4-WMO-01: nobody reaches weights alone, and every grant names its limits.

Requests are serialised once and signed; approvals sign those same bytes. A decision is born denied, and is improved
only when the Cedar policy set and the plain-Python invariants both allow.
"""
