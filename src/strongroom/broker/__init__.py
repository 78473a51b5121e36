"""Serves SL1-WAC-02, SL2-WAC-01 and SL2-WMO-01: the door that people and enclaves come to.

The broker keeps sessions, stores what was signed, and carries it to the keeper. It holds no key that opens weights and
decides nothing that it could forge: whoever owns it, or its database, can refuse service, and can't grant any.
"""
