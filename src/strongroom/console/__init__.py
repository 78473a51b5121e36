"""Serves SL1-NAC-04, SL2-WAC-01 and SL3-WAC-01: where people decide, act and look, in a browser.

Server-rendered pages over the broker's API, in a process and under an origin of their own. The console holds nobody's
signing key: whatever counts is signed in the browser by a security key, over bytes that the page shows, and judged by
the keeper. It works without script, except for those signatures.
"""
