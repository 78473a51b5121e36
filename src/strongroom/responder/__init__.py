"""Serves SL3-TDR-01 (decoys), SL3-WMO-02 and SL3-WMO-03 (somebody is told), SL2-TDR-01 (incidents are answered fast):
from an open of a decoy to releases refused, in milliseconds.

A process of its own. It reads what sensors and the log say, asks the rules, and on what is sure freezes the model, as a
requester of its own in the roster, and shuts the enclave's gate. It can take away, and give nothing.
"""
