"""Sealed weights: SL1-WST-02, SL2-WST-02, SL2-WTU-01; they carry SL3-WPI-01 and SL4-WTU-01 to where weights are opened.

A model's files become a directory of sealed objects that may lie on any storage and cross any network: encrypted with
AES-256-GCM under one data key, each bound to its model, version and place, and all of them named by a signed manifest.
The format is docs/spec/sealed-weights.md. Who gets the data key is decided elsewhere.
"""
