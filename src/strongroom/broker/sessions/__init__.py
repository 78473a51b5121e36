"""Serves SL1-WAC-02 and SL2-WAC-01: who has a session with the broker. Trust, standing and logins, put together."""
