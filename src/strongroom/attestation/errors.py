"""Why evidence, an enrolment or a TPM refused. Every refusal has its own code, so that no caller guesses from text."""

from __future__ import annotations

from strongroom.core.errors import DeniedError, UnavailableError


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


class BadSignatureError(NotGenuineError):
    """The key that should have signed these bytes didn't."""

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


class ChainRefusedError(NotGenuineError):
    """A certificate chain doesn't lead to a pinned root."""

    code = "chain-refused"


class CertificateRevokedError(NotGenuineError):
    """The issuer took a certificate of the chain back."""

    code = "certificate-revoked"


class DebugModeError(NotGenuineError):
    """Really signed, by something that its host can look into. Nothing that it says about itself holds."""

    code = "evidence-debug"


class UnsafeAttributesError(NotGenuineError):
    """Really signed, with attributes that no policy accepts: others may enter, or nobody knows what they mean."""

    code = "evidence-unsafe-attributes"


class CollateralMissingError(NotGenuineError):
    """What the maker publishes about this platform isn't there, so its state can't be judged."""

    code = "collateral-missing"


class CollateralExpiredError(NotGenuineError):
    """What the maker published about this platform isn't current at the instant."""

    code = "collateral-expired"


class TcbRefusedError(NotGenuineError):
    """The maker's collateral doesn't vouch for this platform: forged, revoked, of another platform, or no TCB level."""

    code = "tcb-refused"


class EvidenceAmbiguousError(NotGenuineError):
    """Two parsers read the same evidence differently."""

    code = "evidence-ambiguous"


class EndorsementMismatchError(NotGenuineError):
    """The certificate that vouches for the evidence is another product's, chip's or TCB version's."""

    code = "endorsement-mismatch"


class OtherFirmwareError(NotGenuineError):
    """The evidence states another firmware than the certificate of the key that signed it was made for."""

    code = "evidence-other-firmware"


class ManifestRefusedError(NotGenuineError):
    """A maker's reference manifest isn't signed by the maker, or speaks of something else than it is named for."""

    code = "reference-manifest-refused"


class PcrMismatchError(NotGenuineError):
    """The PCR values that came along aren't the ones that were quoted."""

    code = "evidence-pcr-mismatch"


class RuntimeDataMismatchError(NotGenuineError):
    """The hardware's report commits to another virtual TPM than the one that quoted."""

    code = "evidence-other-runtime-data"


class CollectionError(UnavailableError):
    """Evidence can't be had from this machine. The message names the interface and what it answered."""

    code = "evidence-not-collected"
