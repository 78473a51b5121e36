"""AMD's intermediate certificates, which ship so that a report and its chip's certificate can be judged offline.

They aren't trusted: each counts only once the pinned root's signature on it is checked, and no list revokes it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from strongroom.attestation.sev_snp.certificate_table import ders_in


@cache
def shipped_intermediates() -> tuple[bytes, ...]:
    """Return ASK and ASVK of Milan, Genoa and Turin, in DER.

    :raises MalformedError: the shipped file is broken.
    """
    return ders_in(files("strongroom.attestation").joinpath("anchors", "amd-sev-intermediates.pem").read_bytes())
