"""Is a TPM 2.0 quote genuine? Nine steps; the first that fails names itself. Nothing is parsed before it's signed for.

1. the attestation key: the enrolled record's, of a time before this; without a record the certificate's, or a bare one
2. signature by that key, over the bytes as they came
3. a quote that a TPM generated
4. a certificate leads to a pinned root, is for an attestation key, and isn't revoked
5. qualifying data = our binding (else replayed)
6. one bank of PCRs, SHA-256 or longer
7. the values that came along are those of exactly the quoted PCRs
8. a launch log replays to PCR 14, with the five measurements once each and in order
9. a firmware log replays to each quoted PCR from 0 to 7; above, firmware isn't the last to extend

Where there is a record, its key is the only one: a certificate or a key in the evidence is not looked at. A bare key
makes a quote genuine for that key, and says nothing of where the key lives: its class is ``none``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from strongroom.attestation import chain
from strongroom.attestation.bindings import ItemBinding, Slot
from strongroom.attestation.claims import Aspect, Claim, equal, one_of
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    EndorsementMismatchError,
    EventLogMismatchError,
    NotYetEnrolledError,
    OtherPlatformError,
    WrongBankError,
    WrongSelectionError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import MEASURED_PCR, QUOTED_PCRS, MeasuredName, expected_pcr, measured_set
from strongroom.attestation.platform_record import EnrolledTpm, PlatformRecord
from strongroom.attestation.policies.tpm2 import LogRule, SecureBootRule, Tpm2Policy, Voucher
from strongroom.attestation.tpm.attestation_certificate import (
    require_attestation_certificate,
    says_simulated,
    shipped_intermediates,
)
from strongroom.attestation.tpm.boot_facts import (
    GRUB_REGISTER,
    SECURE_BOOT_REGISTER,
    SecureBoot,
    loader_texts,
    secure_boot,
)
from strongroom.attestation.tpm.compute_instance import ComputeInstance
from strongroom.attestation.tpm.event_log import REGISTERS, EventLog, replay
from strongroom.attestation.tpm.public_area import RSA_BITS, PublicArea, VerifyingKey
from strongroom.attestation.tpm.quote import Quote, pcr_digest
from strongroom.attestation.tpm.signature import TpmSignature
from strongroom.attestation.tpm.statement import MAX_BODY, LoggedEvent, TpmStatement
from strongroom.attestation.trust_anchors import TrustAnchor, Vendor, load_certificate
from strongroom.attestation.verifier import Genuine
from strongroom.core.clock import Instant, format_instant
from strongroom.core.errors import MalformedError
from strongroom.tpm import wire

_FOREVER: Final = 253402300799
"""An enrolled key has no end of its own: leaving the register is what ends it."""
_FIRMWARE_PCRS: Final = tuple(range(8))
_DER: Final = b"\x30"
_NOBODY: Final = "nobody vouches for this key"
_MOST_DETAIL: Final = 512


@dataclass(frozen=True, slots=True)
class Booted:
    """What the firmware's log proves: the quoted PCRs that it replays to, and what can be read from it."""

    replayed: frozenset[int]
    secure_boot: SecureBoot
    texts: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether firmware measured into each of its PCRs, and all of it was quoted and replayed."""
        return self.replayed.issuperset(_FIRMWARE_PCRS)


_NOT_LOGGED: Final = Booted(frozenset(), SecureBoot.UNKNOWN, ())


@dataclass(frozen=True, slots=True)
class Found:
    """What the nine steps established."""

    quote: Quote
    bank: str
    voucher: Voucher | None
    """None where nobody vouches for the key."""
    machine: ComputeInstance | None
    """The machine that the key's certificate names, if any."""
    booted: Booted


@dataclass(frozen=True, slots=True)
class TpmEvidence:
    """A statement, and what was found of it; None before."""

    body: TpmStatement
    found: Found | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """An attestation key, and what vouches for it."""

    key: VerifyingKey
    public: PublicArea | None
    hardware_id: bytes
    voucher: Voucher | None
    machine: ComputeInstance | None = None
    isolation: IsolationClass
    endorsed_until: Instant = _FOREVER
    revocation_checked: bool = False


class Tpm2Verifier:
    """Judges quotes of enrolled TPMs, of certified attestation keys, and (as nobody's) of bare ones."""

    kind: Final = EvidenceKind.TPM2
    max_bytes: Final = MAX_BODY
    slots: Final = frozenset({Slot.QUALIFYING_DATA})
    # None is wanted by itself: see `measurement.require_enough` for which of them an image must list together.
    reference_names: Final[frozenset[str]] = frozenset()
    optional_names: Final = frozenset(MeasuredName) | {f"pcr{number}" for number in range(REGISTERS)}
    policy: Final = Tpm2Policy

    def parse(self, body: bytes) -> TpmEvidence:
        """Read a body; see :class:`~strongroom.attestation.tpm.statement.TpmStatement`."""
        return TpmEvidence(TpmStatement.parse(body))

    def genuine(
        self, statement: TpmEvidence, binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[TpmEvidence]:
        """Check that this key's TPM made this quote, for this binding.

        :raises NotGenuineError: a step fails; each has its own subclass and code.
        :raises MalformedError: a TPM structure, a certificate or a log can't be parsed.
        :raises KeyAttributesError: a key's holder says himself that it isn't an attestation key.
        """
        body = statement.body
        # 1.
        key = _attestation_key(body, endorsements, at)
        # 2. Over the raw bytes, before anything in them is looked at.
        signature = TpmSignature.parse(body.signature)
        _require_scheme(signature, key.public)
        signature.verify(key.key, body.quote)
        # 3.
        quote = Quote.parse(body.quote)
        # 4.
        if key.voucher is Voucher.CERTIFICATE:
            key = _certified(key, body.ak_certificates, endorsements, at)
        # 5.
        bound = binding.bound({Slot.QUALIFYING_DATA: quote.qualifying_data})
        # 6. to 8.
        bank = _bank(quote)
        values = _values(body, quote, bank, signature.hash)
        # 9.
        booted = _booted(body.event_log, bank, values)
        found = Found(quote, wire.algorithm_name(bank), key.voucher, key.machine, booted)
        launched = measured_set(event.measurement for event in body.events)
        return Genuine(
            kind=self.kind,
            bound=bound,
            statement=replace(statement, found=found),
            measurements=launched | {f"pcr{number}": value.hex() for number, value in values.items()},
            hardware_id=key.hardware_id,
            isolation=key.isolation,
            endorsed_until=key.endorsed_until,
            revocation_checked=key.revocation_checked,
            reset_count=quote.reset_count,
            details=_details(found),
        )

    def judge(self, proven: Genuine[TpmEvidence], policy: Tpm2Policy) -> tuple[Claim, ...]:
        """Compare with the policy; a key that nobody vouches for is refused whatever it says."""
        found = proven.statement.found
        if found is None:
            return (Claim("quote", Aspect.INSTANCE_IDENTITY, "not judged", "genuine", ok=False),)
        quote, booted = found.quote, found.booted
        vouched = found.voucher.value if found.voucher else _NOBODY
        clock = equal("clock-safe", Aspect.HARDWARE, quote.safe, wanted=True)
        return (
            one_of("key-vouched-by", Aspect.INSTANCE_IDENTITY, vouched, [one.value for one in policy.ak_vouched_by]),
            clock if policy.clock_must_be_safe else replace(clock, wanted="any", ok=True),
            one_of("bank", Aspect.HARDWARE, found.bank, [bank.value for bank in policy.banks]),
            policy.firmware_versions.claim("tpm-firmware", Aspect.HARDWARE, _version(quote)),
            _logged(policy.event_log, launched=bool(proven.statement.body.events), booted=booted),
            _secure_boot(policy.secure_boot, booted, logged=bool(proven.statement.body.event_log)),
            policy.revocation.claim(proven.revocation_checked),
        )


def _attestation_key(body: TpmStatement, endorsements: Endorsements, at: Instant) -> _Key:
    record = endorsements.platform
    if record is not None:
        return _enrolled(record, at)
    given = _given_key(body.ak_public) if body.ak_public else None
    if body.ak_certificates:
        key = _signing_key(load_certificate(body.ak_certificates[0]))
        if given and _identity(given[0]) != _identity(key):
            raise EndorsementMismatchError("the certificate belongs to another key than the one beside it")
        return _Key(
            key=key,
            # Its attributes are its holder's word; that the key is restricted, whoever certified it has seen to.
            public=given[1] if given else None,
            hardware_id=_identity(key),
            voucher=Voucher.CERTIFICATE,
            isolation=IsolationClass.NONE,  # until step 4
        )
    if given is None:
        raise OtherPlatformError(
            "no enrolled TPM's record came along, and the evidence has no certified key",
            wanted="the record of an enrolled TPM, or an attestation key's certificate",
        )
    return _Key(
        key=given[0],
        public=given[1],
        hardware_id=_identity(given[0]),
        voucher=None,
        isolation=IsolationClass.NONE,
        endorsed_until=at,  # nothing endorses it
    )


def _enrolled(record: PlatformRecord, at: Instant) -> _Key:
    if not isinstance(record.identity, EnrolledTpm):
        raise OtherPlatformError(
            "no enrolled TPM's record came along", seen=str(record.kind), wanted="the record of an enrolled TPM"
        )
    if at < record.enrolled:
        raise NotYetEnrolledError(
            "the platform was enrolled after this time",
            seen=format_instant(at),
            wanted=f"{format_instant(record.enrolled)} or later",
        )
    public = record.identity.attestation_key
    return _Key(
        key=public.key,
        public=public,
        hardware_id=public.name,
        voucher=Voucher.ENROLMENT,
        isolation=record.isolation,
        revocation_checked=True,  # the register of platforms is replayed from the log by whoever hands in the record
    )


def _given_key(data: bytes) -> tuple[VerifyingKey, PublicArea | None]:
    if not data.startswith(_DER):
        public = PublicArea.parse(data)
        public.require_attestation_key()
        return public.key, public
    try:
        key = load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("`tpm2.ak_public` isn't a public key in DER") from None
    return _strong(key), None


def _signing_key(certificate: x509.Certificate) -> VerifyingKey:
    try:
        return _strong(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("the certificate's key is of a kind that isn't read") from None


def _strong(key: object) -> VerifyingKey:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    raise MalformedError("an attestation key is RSA with 2048, 3072 or 4096 bits, or lies on P-256 or P-384")


def _identity(key: VerifyingKey) -> bytes:
    """Name a key that isn't enrolled: by itself, for the attributes beside it are its holder's word."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _require_scheme(signature: TpmSignature, public: PublicArea | None) -> None:
    if public is not None and (signature.algorithm, signature.hash) != (public.scheme, public.scheme_hash):
        raise BadSignatureError(
            "the quote is signed by another scheme than its key's",
            seen=f"0x{signature.algorithm:04x} over {wire.algorithm_name(signature.hash)}",
            wanted=f"0x{public.scheme:04x} over {wire.algorithm_name(public.scheme_hash)}",
        )


def _certified(key: _Key, ders: tuple[bytes, ...], endorsements: Endorsements, at: Instant) -> _Key:
    anchors = endorsements.anchors.of(Vendor.TPM, Vendor.GOOGLE_VTPM)
    candidates = (*ders[1:], *endorsements.collateral.certificates, *shipped_intermediates())
    path = chain.walk(_up_from(ders[0], candidates, anchors), anchors, at, lists=endorsements.lists)
    require_attestation_certificate(path.leaf)
    simulated = IsolationClass.VM_SIMULATED if says_simulated(path.leaf) else IsolationClass.MEASURED_HOST
    return replace(
        key,
        machine=ComputeInstance.of(path.leaf),
        isolation=path.anchor.isolation.weaker(simulated),
        endorsed_until=path.endorsed_until,
        revocation_checked=all(path.looked_up),
    )


def _up_from(leaf: bytes, candidates: tuple[bytes, ...], anchors: tuple[TrustAnchor, ...]) -> list[bytes]:
    """Order what lies between a certificate and a root: whoever handed it in may have left some out, or added some.

    The walk checks everything again; this only finds the way.
    """
    roots = [load_certificate(anchor.certificate) for anchor in anchors]
    others = [(der, load_certificate(der)) for der in dict.fromkeys(candidates)]
    found, below = [leaf], load_certificate(leaf)
    while len(found) < chain.MAX_DEPTH and not any(_issued(below, root) for root in roots):
        above = next((pair for pair in others if _issued(below, pair[1])), None)
        if above is None or above[0] in found:
            break
        found.append(above[0])
        below = above[1]
    return found


def _issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    return above.subject == below.issuer and chain.signed_by(below, above)


def _bank(quote: Quote) -> int:
    banks = [selection.bank for selection in quote.selections]
    if len(banks) != 1 or banks[0] not in wire.STRONG_HASHES:
        raise WrongBankError(
            "the quote must cover one bank of PCRs, SHA-256 or longer: SHA-1 collides",
            seen=", ".join(map(wire.algorithm_name, banks)) or "none",
            wanted="one of sha256, sha384, sha512",
        )
    return banks[0]


def _values(body: TpmStatement, quote: Quote, bank: int, hashed: int) -> Mapping[int, bytes]:
    """Return the quoted values by number, once the TPM's digest says that they are the ones."""
    quoted = quote.selections[0].pcrs
    values = dict(sorted(body.pcrs.items())) if body.pcrs else _launched_alone(body.events)
    if quoted != tuple(values) or not quoted or (body.events and MEASURED_PCR not in values):
        raise WrongSelectionError(
            "the quote must cover exactly the PCRs whose values came along, and the one of a launch log",
            seen=" ".join(map(str, quoted)) or "none",
            wanted=" ".join(map(str, values)),
        )
    if body.events or not body.pcrs:
        _require_launch(body.events, bank)
    if any(len(value) != wire.hash_bytes(bank) for value in values.values()):
        raise WrongBankError(
            "the PCR values that came along are of another bank than the quote", wanted=wire.algorithm_name(bank)
        )
    digest = pcr_digest(tuple(values.values()), hashed)
    if not hmac.compare_digest(quote.pcr_digest, digest):
        raise EventLogMismatchError(
            "the PCR values, or the launch log behind them, aren't what the TPM quoted",
            seen=quote.pcr_digest.hex(),
            wanted=digest.hex(),
            remedy="something else was measured too: restart the TPM and launch once, with the log that was recorded",
        )
    if body.events and not hmac.compare_digest(values[MEASURED_PCR], _replayed_launch(body.events)):
        raise EventLogMismatchError(
            "the launch log doesn't replay to the quoted PCR",
            seen=values[MEASURED_PCR].hex(),
            wanted=_replayed_launch(body.events).hex(),
        )
    return values


def _launched_alone(events: tuple[LoggedEvent, ...]) -> dict[int, bytes]:
    return {MEASURED_PCR: _replayed_launch(events)}


def _replayed_launch(events: tuple[LoggedEvent, ...]) -> bytes:
    return expected_pcr(event.measurement for event in events if event.pcr == MEASURED_PCR)


def _require_launch(events: tuple[LoggedEvent, ...], bank: int) -> None:
    if bank != wire.ALG_SHA256:
        raise WrongBankError(
            "a launch is measured into the SHA-256 bank", seen=wire.algorithm_name(bank), wanted="sha256"
        )
    if stray := sorted({event.pcr for event in events} - set(QUOTED_PCRS)):
        # A line that no quoted PCR backs is only the attester's word.
        raise EventLogMismatchError(
            "the launch log names a PCR that a launcher doesn't measure into",
            seen=" ".join(map(str, stray)),
            wanted=" ".join(map(str, QUOTED_PCRS)),
        )
    names = tuple(event.measurement.name for event in events)
    if names != tuple(MeasuredName):
        # A name twice would hide the first value behind the second; another order is another launch.
        raise EventLogMismatchError(
            "the launch log must hold the five measurements, once each and in order",
            seen=" ".join(names) or "none",
            wanted=" ".join(MeasuredName),
        )


def _booted(data: bytes, bank: int, values: Mapping[int, bytes]) -> Booted:
    if not data:
        return _NOT_LOGGED
    log = EventLog.parse(data)
    replayed = replay(log, bank)
    # From 8 on an operating system extends too, and its log doesn't come along: there a PCR counts if it replays.
    firmware = [number for number in values if number in _FIRMWARE_PCRS]
    start = bytes(wire.hash_bytes(bank))
    for number in firmware:
        if not hmac.compare_digest(values[number], replayed.get(number, start)):
            raise EventLogMismatchError(
                f"the firmware's log doesn't replay to PCR {number}",
                seen=values[number].hex(),
                wanted=replayed.get(number, start).hex(),
                remedy="collect the log again, after the last boot",
            )
    # Only what the log speaks of: where nothing was measured at all, anything could have run.
    counted = frozenset(
        number for number, value in replayed.items() if hmac.compare_digest(values.get(number, b""), value)
    )
    return Booted(
        replayed=counted,
        secure_boot=secure_boot(log, bank) if SECURE_BOOT_REGISTER in counted else SecureBoot.UNKNOWN,
        texts=loader_texts(log, bank) if GRUB_REGISTER in counted else (),
    )


def _version(quote: Quote) -> str:
    return f"{quote.firmware_version:016x}"


def _details(found: Found) -> dict[str, str]:
    quote, booted = found.quote, found.booted
    details = {
        "attestation key": f"vouched for by {found.voucher}" if found.voucher else _NOBODY,
        "bank": found.bank,
        "quoted pcrs": " ".join(map(str, quote.selections[0].pcrs)),
        "firmware version": _version(quote),
        "resets": str(quote.reset_count),
        "restarts": str(quote.restart_count),
    }
    if found.machine is not None:
        details["compute engine instance"] = str(found.machine)
    if booted is not _NOT_LOGGED:
        details["firmware log"] = f"replays to PCR {' '.join(map(str, sorted(booted.replayed))) or 'none'}"
        details["secure boot"] = booted.secure_boot.value
    if booted.texts:
        # Measured text, though not what GRUB says that it was for: that isn't extended.
        details["boot loader's last text"] = booted.texts[-1][:_MOST_DETAIL]
    return details


def _logged(rule: LogRule, *, launched: bool, booted: Booted) -> Claim:
    logs = [name for name, there in (("launch log", launched), ("firmware log", booted.whole)) if there]
    ok = {
        LogRule.FIRMWARE: booted.whole,
        LogRule.LAUNCH_OR_FIRMWARE: launched or booted.whole,
        LogRule.WHEN_PRESENT: True,
    }[rule]
    return Claim("event-log", Aspect.CONFIGURATION, " and ".join(logs) or "none that replays whole", rule.value, ok)


def _secure_boot(rule: SecureBootRule, booted: Booted, *, logged: bool) -> Claim:
    on = booted.secure_boot is SecureBoot.ENABLED
    ok = {SecureBootRule.REQUIRED: on, SecureBootRule.WHEN_LOGGED: on or not logged, SecureBootRule.ANY: True}[rule]
    return Claim("secure-boot", Aspect.CONFIGURATION, booted.secure_boot.value, rule.value, ok)
