"""Serves SL3-WPI-01 (copy-resistant interfaces with a bounded output) and SL4-WST-03: what stands before an enclave.

Also SL3-ARO-01 and SL4-ARO-01 (inputs and outputs are screened) and SL3-AOP-01 (limits per credential).

Text and JSON are made here, outside; only token ids and the numbers of vectors cross the metered channel, each told to
the governor before it goes on. See docs/spec/metered-channel.md and docs/operate/gateway.md.
"""
