"""Serves SL2-WAC-01, SL3-WAC-01 and SL2-WMO-01: the people's and workloads' side, which believes no server.

A client pins the genesis, remembers the newest documents and log head that it saw, and signs nothing but bytes that it
parsed, showed and checked itself. So every approver is a witness of the log, and a rollback needs all of them fooled.
"""
