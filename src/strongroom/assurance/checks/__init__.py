"""Serves SL1-WST-02 and the 70 others that have one: a check for each measure that software decides.

Observations in, what holds and what doesn't out. A check says only what observations show; what they can't show it
names in ``left``, and a person has to attest that before the measure is met.
"""
