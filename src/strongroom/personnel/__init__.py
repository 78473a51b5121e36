"""Serves SL3-WAC-01 and the personnel measures SL2-PFM-01, SL3-PFM-01, SL4-PFM-01: who a person is *today* decides
access.

The roster says who exists, with which keys and roles, and until when each one's vetting holds. It is signed by the
root quorum; a row in a database grants nothing.
"""
