"""Serves SL3-WMO-02 and SL4-WMO-02: what the log says, in the words of the systems that watch for anomalies.

Everything here is pure: one module a format, each a mapping from entries to bytes, and what to do when a receiver
doesn't take them. The log is evidence; an export is a copy to look at, and names the entry that proves each line.
"""
