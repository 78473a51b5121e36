"""What targets share: all that a verifier does with a body, and real files where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.registry import VERIFIERS
from support.simulated_evidence import AT, endorsements
from support.vectors import vectors_root


def judging(kind: EvidenceKind) -> Callable[[bytes], None]:
    """Return what does all that a verifier does with a body: parse, genuine, judge by the strictest policy."""
    verifier = VERIFIERS[kind]

    def judge(body: bytes) -> None:
        proven = verifier.genuine(verifier.parse(body), RecordedBinding(), endorsements(), AT)
        for claim in verifier.judge(proven, verifier.policy.strictest()):
            claim.to_json()

    return judge


def vectors(*patterns: str) -> Iterator[bytes]:
    """Yield the real files that these patterns name."""
    for pattern in patterns:
        for path in sorted((vectors_root() / "attestation").glob(pattern)):
            yield path.read_bytes()
