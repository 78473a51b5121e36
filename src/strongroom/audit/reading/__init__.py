"""Serves SL1-WAC-02 and SL3-WMO-02: who had access to the weights, and when, is asked of the log and answered from it.

Everything here is pure. A :class:`~strongroom.audit.reading.view.LogView` hands out bytes that nobody believes;
:mod:`~strongroom.audit.reading.growth` proves each of them to be in the signed log before anything is made of it.
"""
