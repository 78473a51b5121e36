"""Why evidence, an enrolment or a TPM refused. Every refusal has its own code, so that no caller guesses from text."""

from __future__ import annotations

from strongroom.core.errors import ConflictError, DeniedError, UnavailableError


class NotGenuineError(DeniedError):
    """Evidence that proves nothing. ``seen`` and ``wanted`` say what was compared, for whoever must explain it."""

    code = "evidence-not-genuine"

    def __init__(self, message: str, *, seen: str = "", wanted: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.seen = seen
        self.wanted = wanted


class OtherPlatformError(NotGenuineError):
    """The evidence names another platform than the record that it is judged by."""

    code = "evidence-other-platform"


class NotYetEnrolledError(NotGenuineError):
    """The platform's enrolment lies in the future of the instant of appraisal."""

    code = "evidence-before-enrolment"


class OtherRecipientError(NotGenuineError):
    """The evidence carries another recipient key than the binding names."""

    code = "evidence-other-recipient"


class BadQuoteSignatureError(NotGenuineError):
    """The enrolled attestation key didn't sign these bytes."""

    code = "evidence-bad-signature"


class WrongStructureError(NotGenuineError):
    """The signed bytes aren't a quote that a TPM generated."""

    code = "evidence-wrong-structure"


class EvidenceReplayedError(NotGenuineError):
    """A real quote, made for another challenge, request, model or recipient key."""

    code = "evidence-replayed"


class WrongBankError(NotGenuineError):
    """The quote covers another PCR bank than SHA-256."""

    code = "evidence-wrong-bank"


class WrongSelectionError(NotGenuineError):
    """The quote covers other PCRs than exactly those that are asked for."""

    code = "evidence-wrong-selection"


class EventLogMismatchError(NotGenuineError):
    """The event log, replayed, doesn't give the PCR values that were quoted."""

    code = "evidence-log-mismatch"


class AttestationRefusedError(DeniedError):
    """An attestation result that allows nothing. ``reason`` is the first failed claim's code."""

    code = "attestation-refused"


class EnrolmentRefusedError(DeniedError):
    """A platform can't be enrolled. ``reason`` names the failed step."""

    code = "enrolment-refused"


class ChainRefusedError(EnrolmentRefusedError):
    """A certificate chain doesn't lead to a pinned root."""

    code = "chain-refused"


class EnrolmentConflictError(ConflictError):
    """The platform is enrolled already, and not as this."""

    code = "enrolment-conflict"


class TpmError(UnavailableError):
    """A TPM refused a command, or its answer makes no sense. The message names the command and the TPM's code."""

    code = "tpm"
