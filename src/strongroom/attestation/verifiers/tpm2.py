"""Is a TPM 2.0 quote genuine? Nine steps; the first that fails names itself. Nothing is parsed before it is signed for.

1. platform named = platform enrolled          6. qualifying data = our binding (else replayed)
2. enrolled at that time                       7. SHA-256 bank, and only that
3. recipient key = the binding's               8. exactly the wanted PCRs
4. signature by the enrolled attestation key   9. PCR digest = replay of the event log
5. a quote that a TPM generated
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from strongroom.attestation.errors import (
    EventLogMismatchError,
    EvidenceReplayedError,
    NotYetEnrolledError,
    OtherPlatformError,
    OtherRecipientError,
    WrongBankError,
    WrongSelectionError,
)
from strongroom.attestation.evidence import Evidence, LoggedEvent
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.measurement import QUOTED_PCRS, Measurement, expected_pcr
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.attestation.tpm.quote import Quote, pcr_digest, sha256_only
from strongroom.attestation.tpm.signature import TpmSignature
from strongroom.attestation.transcript import Binding
from strongroom.core.clock import Instant, format_instant
from strongroom.core.errors import UsageError
from strongroom.core.ids import PlatformId


@dataclass(frozen=True, slots=True, kw_only=True)
class Genuine:
    """What genuine evidence states. It isn't yet wanted: that needs reference values."""

    platform: PlatformId
    measurements: tuple[Measurement, ...]
    recipient_key: bytes
    isolation: IsolationClass
    reset_count: int
    """Power cycles of the TPM since its birth. A lease can't be renewed across one."""
    restart_count: int
    clock: int
    firmware_version: int


def parse(data: bytes) -> Evidence:
    """Read evidence without believing any of it.

    :raises MalformedError: not an evidence envelope of kind ``tpm2``.
    """
    return Evidence.parse(data)


def genuine(evidence: Evidence, *, binding: Binding, platform_record: PlatformRecord, at: Instant) -> Genuine:
    """Check that the enrolled platform made this evidence, for this binding.

    ``at`` is the instant of appraisal.

    :raises NotGenuineError: a step fails; each has its own subclass and code.
    :raises MalformedError: a TPM structure can't be parsed.
    :raises UsageError: there is no binding.
    """
    _require_binding(binding)
    # 1.
    if evidence.platform != platform_record.platform:
        raise OtherPlatformError(
            "the evidence comes from another platform than the record",
            seen=evidence.platform,
            wanted=platform_record.platform,
        )
    # 2.
    if at < platform_record.enrolled:
        raise NotYetEnrolledError(
            "the platform was enrolled after this time",
            seen=format_instant(at),
            wanted=f"{format_instant(platform_record.enrolled)} or later",
        )
    # 3.
    if not evidence.recipient_digest.matches(binding.recipient_key):
        raise OtherRecipientError(
            "the evidence carries another recipient key than the binding",
            seen=str(evidence.recipient_digest),
            wanted=str(binding.recipient_key),
        )
    # 4. Over the raw bytes, before anything in them is looked at.
    TpmSignature.parse(evidence.signature).verify(platform_record.attestation_key.key, evidence.quote)
    # 5.
    quote = Quote.parse(evidence.quote)
    # 6.
    _require_bound(quote, binding)
    # 7. to 9.
    _require_replay(quote, evidence.events)
    return Genuine(
        platform=platform_record.platform,
        measurements=tuple(event.measurement for event in evidence.events),
        recipient_key=evidence.recipient_key,
        isolation=platform_record.isolation,
        reset_count=quote.reset_count,
        restart_count=quote.restart_count,
        clock=quote.clock,
        firmware_version=quote.firmware_version,
    )


def _require_binding(binding: object) -> None:
    # A verifier that took "no binding" for "any binding" would accept every old quote.
    if not isinstance(binding, Binding):
        raise UsageError("evidence can't be judged without the binding that it must carry")


def _require_bound(quote: Quote, binding: Binding) -> None:
    wanted = binding.tpm2_qualifying_data
    if not hmac.compare_digest(quote.qualifying_data, wanted):
        raise EvidenceReplayedError(
            "the quote was made for another challenge, request, model or recipient key",
            seen=quote.qualifying_data.hex(),
            wanted=wanted.hex(),
            remedy="ask for a new challenge and quote again",
        )


def _require_replay(quote: Quote, events: tuple[LoggedEvent, ...]) -> None:
    if not sha256_only(quote):
        raise WrongBankError(
            "the quote must cover the SHA-256 bank and no other",
            seen=", ".join(f"0x{selection.bank:04x}" for selection in quote.selections) or "none",
            wanted="0x000b",
        )
    seen_pcrs = quote.selections[0].pcrs
    if seen_pcrs != QUOTED_PCRS:
        raise WrongSelectionError(
            "the quote must cover exactly the measured PCRs",
            seen=" ".join(map(str, seen_pcrs)) or "none",
            wanted=" ".join(map(str, QUOTED_PCRS)),
        )
    if stray := sorted({event.pcr for event in events} - set(QUOTED_PCRS)):
        # A line that no quoted PCR backs is only the attester's word.
        raise EventLogMismatchError(
            "the event log names a PCR that isn't quoted",
            seen=" ".join(map(str, stray)),
            wanted=" ".join(map(str, QUOTED_PCRS)),
        )
    replayed = pcr_digest(tuple(expected_pcr(e.measurement for e in events if e.pcr == pcr) for pcr in QUOTED_PCRS))
    if not hmac.compare_digest(quote.pcr_digest, replayed):
        raise EventLogMismatchError(
            "the event log doesn't replay to the quoted PCR values",
            seen=quote.pcr_digest.hex(),
            wanted=replayed.hex(),
            remedy="something else was measured too: restart the TPM and launch once, with the log that was recorded",
        )
