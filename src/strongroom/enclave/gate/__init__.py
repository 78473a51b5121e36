"""A metered gate for an enclave that can't do without a network (SL3-WPI-01, SL4-WST-03): named peers, counted bytes.

Between the enclave's network namespace and the world stands a third one, the gate, which nothing inside can reach. Its
nftables drop everything first; what peers may be spoken to, and how many bytes in all, is added after that.
"""
