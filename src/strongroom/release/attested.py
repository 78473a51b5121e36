"""What a release, or the renewal of its lease, was proved by: kept whole, so that anybody can appraise it again.

The log names each record by its digest. It holds the evidence as it came, what the evidence had to commit to, and the
signed attestation result that the keeper made of it. It holds no key and no name of a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.attestation import ear
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.results import AttestationResult
from strongroom.attestation.transcript import Binding
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.fields import Fields
from strongroom.core.signature import Signer
from strongroom.release.dossier import MAX_EVIDENCE

MAX_BINDING: Final = 4096
MAX_ATTESTED: Final = 960 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """Evidence, the bytes that its statements commit to by hash (``T``), and the attestation result as a token."""

    evidence: bytes
    binding: bytes
    """Canonical JSON of the binding (docs/spec/attestation-binding.md)."""
    result: str
    """EAR, docs/spec/attestation-results.md."""

    @classmethod
    def of(
        cls,
        evidence: Evidence,
        binding: Binding,
        result: AttestationResult,
        *,
        signer: Signer,
        collateral: Digest,
        at: Instant,
    ) -> Attested:
        """Sign the result of an appraisal, and keep it with what it was made of.

        :raises UsageError: what the result rests on has ended at this very instant.
        :raises MalformedError: the token would be too large to be read.
        """
        token = ear.issue(result, signer, at, collateral=collateral)
        return cls(evidence=evidence.to_bytes(), binding=binding.to_bytes(), result=token)

    @classmethod
    def parse(cls, data: bytes) -> Attested:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        return cls.read(decode(data, max_bytes=MAX_ATTESTED))

    @classmethod
    def read(cls, value: Json) -> Attested:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        with Fields(value, "attested") as fields:
            fields.constant("v", 1)
            return cls(
                evidence=fields.binary("evidence", max_length=MAX_EVIDENCE),
                binding=fields.binary("binding", max_length=MAX_BINDING),
                result=fields.text("result", max_length=ear.MAX_TOKEN),
            )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "v": 1,
            "evidence": to_base64(self.evidence),
            "binding": to_base64(self.binding),
            "result": self.result,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(self.to_json())

    @property
    def digest(self) -> Digest:
        """How the log names this record."""
        return Digest.of(self.to_bytes())

    @property
    def result_digest(self) -> Digest:
        """SHA-256 of the token: how the log names the result."""
        return Digest.of(self.result.encode())
