"""Serves the reader of an assessment: the forms in which it is handed on. Pure: an assessment and the framework in.

A report adds nothing to the assessment. RAND measures SL3-ARA-01 (what is left open is written down), SL2-ART-01 (what
an outside reviewer can read without us).
"""
