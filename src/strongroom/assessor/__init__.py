"""Serves SL2-NCM-02, SL2-NHW-02 and SL3-NSC-01: collectors that read a running deployment and its hosts.

Settings are watched, devices are visible, software is listed. What the observations mean is judged in
:mod:`strongroom.assurance`. Nothing here changes anything: collectors read, and try what must be refused.
"""
