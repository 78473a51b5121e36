"""Serves SL3-ARA-01, SL2-NCM-02 and SL2-ART-01: which RAND Security Level a deployment holds, from live observations.

Observations (what a collector saw) become findings (one for each of the 169 measures), and findings a level, by the
report's own rules: cumulative, without averages, SL5 never by self-assessment. What is left open is written down, and
an outside reviewer can judge it again.

Start at :func:`strongroom.assurance.judging.judge`.
"""
