"""Documents that come along: how a model was made (SLSA provenance v1), and what is in it (CycloneDX 1.6, SPDX 3.0).

They are kept by digest, and only their form is looked at. Nothing that decides reads them: a supplier's word about its
own artifact is evidence for people.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.digest import Digest
from strongroom.intake.rules import IntakeRefusedError, Rule

MAX_ATTACHMENT: Final = 16 << 20
_SPDX_CONTEXT: Final = "https://spdx.org/rdf/3.0."


class AttachmentKind(StrEnum):
    """What a document says that it is."""

    SLSA_PROVENANCE = "slsa-provenance-v1"
    CYCLONEDX = "cyclonedx-1.6"
    SPDX = "spdx-3.0"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document's kind and digest."""

    kind: AttachmentKind
    digest: Digest


def read_attachment(data: bytes) -> Attachment:
    """Say what a document is by its form. Its content isn't believed.

    :raises IntakeRefusedError: attachment-form.
    """
    if len(data) > MAX_ATTACHMENT:
        raise IntakeRefusedError(Rule.ATTACHMENT_FORM, f"an attachment of more than {MAX_ATTACHMENT} bytes")
    try:
        found = json.loads(data.decode("utf-8"), parse_int=str)
    except (ValueError, RecursionError):
        raise IntakeRefusedError(Rule.ATTACHMENT_FORM, "an attachment that isn't JSON") from None
    return Attachment(_kind(found), Digest.of(data))


def _kind(found: object) -> AttachmentKind:
    if isinstance(found, dict):
        if found.get("predicateType") == "https://slsa.dev/provenance/v1" and _has_subject(found):
            return AttachmentKind.SLSA_PROVENANCE
        if found.get("bomFormat") == "CycloneDX" and found.get("specVersion") == "1.6":
            return AttachmentKind.CYCLONEDX
        context = found.get("@context")
        if isinstance(context, str) and context.startswith(_SPDX_CONTEXT) and isinstance(found.get("@graph"), list):
            return AttachmentKind.SPDX
    raise IntakeRefusedError(
        Rule.ATTACHMENT_FORM,
        "an attachment of a kind that isn't known",
        remedy="SLSA provenance v1 as an in-toto statement, CycloneDX 1.6 and SPDX 3.0 (both as JSON) are kept",
    )


def _has_subject(found: dict[str, object]) -> bool:
    subjects = found.get("subject")
    return found.get("_type") == "https://in-toto.io/Statement/v1" and isinstance(subjects, list) and bool(subjects)
