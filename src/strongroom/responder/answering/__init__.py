"""Serves SL2-TDR-01 and SL3-WMO-03: incidents, their playbooks and drills, in the responder's process."""
