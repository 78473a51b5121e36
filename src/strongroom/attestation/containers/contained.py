"""What a file of evidence held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.attestation.bindings import Slot
from strongroom.attestation.evidence import EvidenceItem
from strongroom.core.errors import MalformedError

MAX_FILE: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Contained:
    """The items of one file, in its order, and what the file says beside them."""

    form: str
    """The form's name, for people: ``SEV-SNP report``, ``configfs-tsm JSON``, ``NVIDIA evidence list``."""
    items: tuple[EvidenceItem, ...]
    certificates: tuple[bytes, ...] = ()
    """DER certificates that came along outside the items; as good as any other collateral."""
    stated: Mapping[Slot, bytes] = field(default_factory=dict)
    """What the file says that its maker's challenge was: worth comparing, and proof of nothing."""


def check_size(data: bytes) -> None:
    """Check that a file of evidence isn't too large to be read.

    :raises MalformedError: it is.
    """
    if len(data) > MAX_FILE:
        raise MalformedError(f"the file has {len(data)} bytes; at most {MAX_FILE} are read")
