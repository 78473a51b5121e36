"""Serves SL3-WMO-02 and SL3-WMO-03 (unusual behaviour is looked for, and somebody is told), SL3-TDR-01 (decoys): from
events to alerts.

Everything here is pure: a rule pack and a stream of flat events in, hits out. Rules are written in Sigma 2.x YAML;
:mod:`~strongroom.detection.adapters.sigma_rules` turns them into a pack where packs are built, and nothing that runs
needs Sigma's libraries.
"""
