"""Serves SL2-TDR-01 (incidents are answered fast, as planned) and SL2-TDR-02 (those who must know are told).

Everything but :mod:`~strongroom.response.wiring` is pure: alerts, answers and a time in; entries, commands and texts
out. What a command does is an adapter's work; this shelf says which commands, in which order, by whose authority, how
each is checked afterwards, and what is still owed to whom.
"""
