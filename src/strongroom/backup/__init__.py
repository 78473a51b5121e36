"""Serves SL1-WAC-02 and SL2-WST-02: a backup of the whole control plane that gives its thief nothing, and its return.

A backup is one file: a header that anybody may read, and two encrypted sections. It holds no root key, no epoch key and
no KEK: those are in the key package, which is kept elsewhere. What comes back is believed as far as the log says so.
"""
