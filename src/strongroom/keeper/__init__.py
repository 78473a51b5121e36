"""Serves SL2-WST-02 and SL4-WMO-01: the keeper, the small trusted process that decides and unwraps.

It pins the genesis, replays the log for whatever takes access away, and believes nothing that the broker hands it.
It carries out steps 4, 5 and 6 of the release protocol (numbered in :mod:`strongroom.release.steps`):
4 verify, born refused; 5 append to the log, durably, and look at freezes again; 6 unwrap, encrypt, sign.
"""
