"""Serves SL3-WPI-01 (copy-resistant interfaces with a bounded output) and SL4-WST-03: what stands before an enclave.

Text and JSON are made here, outside; only token ids cross the metered channel, each one told to the governor before it
goes on. See docs/spec/metered-channel.md and docs/operate/gateway.md.
"""
