"""Serves SL3-WPI-01 (copy-resistant interfaces, their output capped below the size of the weights), SL4-WST-03 (a
yearly share over all links) and Anthropic's ASL-3 egress limits: what may leave an enclave, in bits, and for how long.

Everything here is pure and counts in whole bits; costs are rounded up, sizes and budgets down. A gateway asks
:mod:`~strongroom.egress.governor` before it forwards anything; what left is kept by :mod:`~strongroom.egress.odometer`,
which the log mirrors ahead of time.
"""
