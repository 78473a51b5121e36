"""Certified attestation keys, quotes over many PCRs, firmware logs, and each field of the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from simulators.attester import MEASUREMENTS, attester
from simulators.tpm_chain import (
    EK_OID,
    MADE,
    NONCE,
    Authority,
    Logged,
    VirtualTpm,
    agile_log,
    area,
    boot,
    instance_of,
    old_log,
    registers,
    rsa_key,
    virtual_tpm,
)
from strongroom.attestation.bindings import ExpectedBinding, RecordedBinding, Slot
from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    CertificateRevokedError,
    ChainRefusedError,
    EndorsementMismatchError,
    EventLogMismatchError,
    EvidenceReplayedError,
    NotGenuineError,
    OtherPlatformError,
    WrongBankError,
    WrongSelectionError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.measurement import MEASURED_PCR, expected_pcr
from strongroom.attestation.policies.allowed import ANYTHING, Allowed
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.policies.tpm2 import Bank, LogRule, SecureBootRule, Tpm2Policy, Voucher
from strongroom.attestation.tpm.public_area import AK_ATTRIBUTES, Attribute, KeyAttributesError
from strongroom.attestation.tpm.statement import LoggedEvent, TpmStatement
from strongroom.attestation.trust_anchors import TrustAnchor, TrustAnchors, Vendor, vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.tpm2 import Tpm2Verifier, TpmEvidence
from strongroom.core.errors import MalformedError, StrongroomError, UsageError
from strongroom.core.fields import Fields
from strongroom.tpm import wire
from support.certificates import usage

VERIFIER = Tpm2Verifier()
LOG = agile_log(boot())
PCRS = registers(LOG)
MACHINE = virtual_tpm()
BOUND = ExpectedBinding({Slot.QUALIFYING_DATA: NONCE})
LAUNCH = tuple(LoggedEvent(MEASURED_PCR, measurement) for measurement in MEASUREMENTS)
WITH_LAUNCH = {**PCRS, MEASURED_PCR: expected_pcr(MEASUREMENTS)}
LAX = Tpm2Policy(
    clock_must_be_safe=False,
    banks=tuple(Bank),
    event_log=LogRule.WHEN_PRESENT,
    secure_boot=SecureBootRule.ANY,
    firmware_versions=ANYTHING,
    ak_vouched_by=tuple(Voucher),
    revocation=RevocationRule.WHEN_PRESENT,
)


def item(kind: CollateralKind, data: bytes) -> CollateralItem:
    return CollateralItem(kind=kind, name="", data=data, not_before=0, not_after=2 * MADE)


def judged(
    statement: TpmStatement,
    *anchors: TrustAnchor,
    binding: Any = BOUND,
    at: int = MADE,
    collateral: tuple[CollateralItem, ...] = (),
) -> Genuine[TpmEvidence]:
    endorsements = Endorsements(anchors=TrustAnchors(anchors or (MACHINE.anchor,)), collateral=Collateral(collateral))
    return VERIFIER.genuine(VERIFIER.parse(statement.to_bytes()), binding, endorsements, at)


def failed(proven: Genuine[TpmEvidence], **changed: Any) -> list[str]:
    return [claim.name for claim in VERIFIER.judge(proven, replace(LAX, **changed)) if not claim.ok]


def test_a_certified_keys_quote_is_genuine_with_its_log() -> None:
    proven = judged(MACHINE.statement(PCRS, event_log=LOG))
    assert proven.isolation is IsolationClass.VM_SIMULATED
    assert proven.bound.fresh
    assert proven.measurements == {f"pcr{number}": value.hex() for number, value in PCRS.items()}
    assert proven.details["secure boot"] == "enabled"
    assert proven.details["boot loader's last text"] == "/vmlinuz root=/dev/dm-0"
    assert MADE < proven.endorsed_until < MADE + 3650 * 86400
    assert (proven.revocation_checked, proven.reset_count) == (False, 3)
    assert failed(proven) == []


@pytest.mark.parametrize(
    ("key", "scheme", "hashed"),
    [
        (ec.generate_private_key(ec.SECP256R1()), wire.ALG_ECDSA, wire.ALG_SHA256),
        (ec.generate_private_key(ec.SECP384R1()), wire.ALG_ECDSA, wire.ALG_SHA384),
        (rsa_key(), wire.ALG_RSASSA, wire.ALG_SHA256),
        (rsa_key(), wire.ALG_RSASSA, wire.ALG_SHA384),
        (rsa_key(), wire.ALG_RSAPSS, wire.ALG_SHA256),
        (rsa_key(), wire.ALG_RSAPSS, wire.ALG_SHA512),
    ],
    ids=["P-256", "P-384", "RSASSA", "RSASSA over SHA-384", "RSAPSS", "RSAPSS over SHA-512"],
)
@pytest.mark.parametrize("bank", [wire.ALG_SHA256, wire.ALG_SHA384])
def test_every_kind_of_key_and_strong_bank_is_read(key: Any, scheme: int, hashed: int, bank: int) -> None:
    log = agile_log(boot(), (wire.ALG_SHA256, wire.ALG_SHA384))
    machine = replace(MACHINE, key=key, scheme=scheme, hash=hashed)
    values = registers(log, bank)
    statement = machine.statement(values, quote=machine.quote(values, bank=bank), event_log=log)
    proven = judged(statement)
    assert proven.measurements["pcr7"] == values[7].hex()
    assert failed(proven, secure_boot=SecureBootRule.REQUIRED, event_log=LogRule.FIRMWARE) == []
    for signature in (statement.signature[:-1] + bytes([statement.signature[-1] ^ 1]), machine.sign(b"another")):
        with pytest.raises(BadSignatureError):
            judged(replace(statement, signature=signature))


def test_the_challenge_is_compared_and_never_left_out() -> None:
    statement = MACHINE.statement(PCRS)
    with pytest.raises(EvidenceReplayedError):
        judged(statement, binding=ExpectedBinding({Slot.QUALIFYING_DATA: NONCE + b"\0"}))
    with pytest.raises(UsageError):
        judged(statement, binding=ExpectedBinding({Slot.NONCE: NONCE}))
    assert not judged(statement, binding=RecordedBinding()).bound.fresh


def test_a_bare_keys_quote_is_genuine_and_nobodys() -> None:
    spki = MACHINE.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for public in (spki, MACHINE.public):
        proven = judged(MACHINE.statement(PCRS, ak_public=public, ak_certificates=(), event_log=LOG))
        assert (proven.isolation, proven.endorsed_until) == (IsolationClass.NONE, MADE)
        assert proven.details["attestation key"] == "nobody vouches for this key"
        assert failed(proven) == ["key-vouched-by"]
    with pytest.raises(BadSignatureError):
        judged(MACHINE.statement(PCRS, ak_public=virtual_tpm("b").public, ak_certificates=()))
    with pytest.raises(OtherPlatformError):
        judged(MACHINE.statement(PCRS, ak_public=b"", ak_certificates=()))


def test_an_enrolled_platforms_key_is_the_only_one() -> None:
    record = attester().record()
    endorsements = Endorsements(anchors=TrustAnchors((MACHINE.anchor,)), platform=record)
    for changed in ({}, {"ak_certificates": ()}, {"ak_public": record_public(record)}):
        evidence = VERIFIER.parse(MACHINE.statement(PCRS, **changed).to_bytes())
        with pytest.raises(BadSignatureError):
            VERIFIER.genuine(evidence, BOUND, endorsements, MADE)
    enrolled = replace(MACHINE, key=attester().key)
    evidence = VERIFIER.parse(enrolled.statement(PCRS, ak_certificates=(b"junk",), ak_public=b"junk").to_bytes())
    proven = VERIFIER.genuine(evidence, BOUND, endorsements, record.enrolled)
    assert proven.hardware_id == attester().public.name
    assert failed(proven, ak_vouched_by=(Voucher.ENROLMENT,), revocation=RevocationRule.REQUIRED) == []


def record_public(record: Any) -> bytes:
    found: bytes = record.identity.attestation_key.raw
    return found


def test_real_roots_refuse_the_simulated_machine() -> None:
    with pytest.raises(ChainRefusedError):
        judged(MACHINE.statement(PCRS), *vendor_anchors().anchors)


def chains() -> dict[str, tuple[tuple[bytes, ...], type[StrongroomError]]]:
    good, between, other = MACHINE.certificate, MACHINE.between.der, virtual_tpm("b")
    certify = MACHINE.between.certify
    return {
        "no intermediate": ((good,), ChainRefusedError),
        "another machine's intermediate": ((good, other.between.der), ChainRefusedError),
        "certified by itself": ((other.between.certify(MACHINE.key), other.between.der), ChainRefusedError),
        "another key": ((certify(other.key), between), EndorsementMismatchError),
        "an endorsement key's purpose": ((certify(MACHINE.key, purpose=EK_OID), between), ChainRefusedError),
        "a client's purpose": ((certify(MACHINE.key, purpose="1.3.6.1.5.5.7.3.2"), between), ChainRefusedError),
        "no purpose": ((certify(MACHINE.key, purpose=None), between), ChainRefusedError),
        "a CA": ((certify(MACHINE.key, authority=True), between), ChainRefusedError),
        "encrypts": ((certify(MACHINE.key, key_usage=usage(sign=False)), between), ChainRefusedError),
        "signs certificates alone": (
            (certify(MACHINE.key, key_usage=usage(sign=False, certificates=True)), between),
            ChainRefusedError,
        ),
        "expired": ((certify(MACHINE.key, days=99), between), ChainRefusedError),
        "junk": ((b"junk", between), MalformedError),
        "junk above": ((good, b"junk"), MalformedError),
    }


@pytest.mark.parametrize("fault", list(chains()))
def test_a_certificate_that_does_not_vouch_is_refused_and_nothing_else_is_tried(fault: str) -> None:
    certificates, error = chains()[fault]
    with pytest.raises(error):
        judged(MACHINE.statement(PCRS, ak_certificates=certificates))


def test_certificates_may_come_in_any_order_from_anywhere() -> None:
    own, root, between = MACHINE.certificate, MACHINE.root.der, MACHINE.between.der
    stranger = virtual_tpm("b").between.der
    for certificates in ((own, between), (own, root, between), (own, stranger, between, root)):
        assert judged(MACHINE.statement(PCRS, ak_certificates=certificates)).endorsed_until
    collateral = (item(CollateralKind.CERTIFICATE, stranger), item(CollateralKind.CERTIFICATE, between))
    assert judged(MACHINE.statement(PCRS, ak_certificates=(own,)), collateral=collateral).endorsed_until


def test_googles_instance_names_make_a_certificate_an_attestation_keys() -> None:
    for purpose in (None, EK_OID):
        machine = replace(MACHINE, shape={"purpose": purpose, "instance": instance_of()})
        proven = judged(machine.statement(PCRS))
        assert proven.isolation is IsolationClass.VM_SIMULATED
        assert proven.details["compute engine instance"] == "project/us1/machine (4660)"


@pytest.mark.parametrize(
    ("instance", "error"),
    [
        (instance_of(bytes.fromhex("a003020100a103010100")), ChainRefusedError),
        (instance_of(bytes.fromhex("a003020100")), ChainRefusedError),
        (instance_of(b""), ChainRefusedError),
        (instance_of(bytes.fromhex("a1030101ffa103010100")), ChainRefusedError),
        (instance_of(bytes.fromhex("a1ff0101ff")), MalformedError),
        (instance_of()[:-1], MalformedError),
        (b"\x30\x00", MalformedError),
        (b"", MalformedError),
    ],
    ids=["a test machine", "nothing said", "no properties", "twice", "endless", "cut", "empty", "no bytes"],
)
def test_a_machine_that_is_not_in_production_vouches_for_nothing(instance: bytes, error: type[StrongroomError]) -> None:
    with pytest.raises(error):
        judged(replace(MACHINE, shape={"purpose": None, "instance": instance}).statement(PCRS))


def test_a_certificate_that_calls_itself_simulated_is_simulated_under_any_root() -> None:
    real = TrustAnchor(Vendor.TPM, MACHINE.root.der, IsolationClass.MEASURED_HOST)
    assert judged(MACHINE.statement(PCRS), real).isolation is IsolationClass.MEASURED_HOST
    told = replace(
        MACHINE, shape={"tpm": ("id:00001014", "swtpm", "id:1"), "instance": instance_of(), "purpose": EK_OID}
    )
    assert judged(told.statement(PCRS), real).isolation is IsolationClass.VM_SIMULATED


@pytest.mark.parametrize("tpm", [("id:00001014", "swtpm", "id:1"), ("id:53544D20", "SwTPM", "id:1")])
def test_an_attestation_keys_certificate_needs_no_other_purpose_to_call_itself_simulated(
    tpm: tuple[str, str, str],
) -> None:
    real = TrustAnchor(Vendor.TPM, MACHINE.root.der, IsolationClass.MEASURED_HOST)
    told = replace(MACHINE, shape={"tpm": tpm})
    assert judged(told.statement(PCRS), real).isolation is IsolationClass.VM_SIMULATED
    hardware = replace(MACHINE, shape={"tpm": ("id:53544D20", "ST33", "id:1")})
    assert judged(hardware.statement(PCRS), real).isolation is IsolationClass.MEASURED_HOST


def test_revoked_certificates_are_refused_and_lists_count_while_current() -> None:
    certificate = MACHINE.certificate
    statement = MACHINE.statement(PCRS, ak_certificates=(certificate, MACHINE.between.der))

    def lists(*ders: bytes) -> tuple[CollateralItem, ...]:
        return tuple(item(CollateralKind.REVOCATION_LIST, der) for der in ders)

    clean = lists(MACHINE.root.revokes(), MACHINE.between.revokes())
    proven = judged(statement, collateral=clean)
    assert proven.revocation_checked
    assert failed(proven, revocation=RevocationRule.REQUIRED) == []
    assert proven.endorsed_until == MADE + 29 * 86400
    for revoked in (MACHINE.root.revokes(MACHINE.between.der), MACHINE.between.revokes(certificate)):
        with pytest.raises(CertificateRevokedError):
            judged(statement, collateral=(*clean, *lists(revoked)))
    for some in (clean[:1], clean[1:], ()):
        unchecked = judged(statement, collateral=some)
        assert failed(unchecked, revocation=RevocationRule.REQUIRED) == ["revocation"]
    assert not judged(statement, collateral=clean, at=MADE + 30 * 86400).revocation_checked


def test_a_key_whose_holder_says_that_it_signs_anything_is_refused() -> None:
    for attributes in (AK_ATTRIBUTES & ~Attribute.RESTRICTED, AK_ATTRIBUTES & ~Attribute.FIXED_TPM):
        public = area(MACHINE.key, MACHINE.scheme, MACHINE.hash, attributes)
        for certificates in ((), (MACHINE.certificate, MACHINE.between.der)):
            with pytest.raises(KeyAttributesError):
                judged(MACHINE.statement(PCRS, ak_public=public, ak_certificates=certificates))


def test_a_signature_of_another_scheme_than_the_keys_is_refused() -> None:
    machine = replace(MACHINE, key=rsa_key(), scheme=wire.ALG_RSASSA)
    pss = replace(machine, scheme=wire.ALG_RSAPSS)
    message = machine.quote(PCRS)
    with pytest.raises(BadSignatureError, match="another scheme"):
        judged(machine.statement(PCRS, quote=message, signature=pss.sign(message)))


def test_weak_keys_are_refused() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the point
    for key in (weak, ec.generate_private_key(ec.SECP521R1()), ec.generate_private_key(ec.SECP256K1())):
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(MalformedError):
            judged(MACHINE.statement(PCRS, ak_public=spki, ak_certificates=()))


def quoted(bank: int, pcrs: Mapping[int, bytes] = PCRS, *, selection: bytes | None = None) -> TpmStatement:
    return MACHINE.statement(pcrs, quote=MACHINE.quote(pcrs, bank=bank, selection=selection))


SELECT_ALL = b"\x03\xff\xff\xff"


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        (quoted(wire.ALG_SHA1, {n: bytes(20) for n in range(24)}), WrongBankError),
        (quoted(wire.ALG_SM3_256), WrongBankError),
        (quoted(0, selection=wire.u32(0)), WrongBankError),
        (quoted(0, selection=wire.u32(2) + (wire.u16(wire.ALG_SHA256) + SELECT_ALL) * 2), WrongBankError),
        (
            quoted(0, selection=wire.u32(2) + wire.u16(4) + SELECT_ALL + wire.u16(wire.ALG_SHA256) + SELECT_ALL),
            WrongBankError,
        ),
        (quoted(wire.ALG_SHA384), WrongBankError),
        (MACHINE.statement({**PCRS, 0: bytes(48)}, quote=MACHINE.quote(PCRS)), WrongBankError),
        (MACHINE.statement({n: v for n, v in PCRS.items() if n}, quote=MACHINE.quote(PCRS)), WrongSelectionError),
        (MACHINE.statement(PCRS, quote=MACHINE.quote({0: PCRS[0]})), WrongSelectionError),
        (MACHINE.statement({}, quote=MACHINE.quote({})), WrongSelectionError),
        (MACHINE.statement({}, quote=MACHINE.quote(PCRS)), WrongSelectionError),
        (MACHINE.statement({}, quote=MACHINE.quote({14: PCRS[14]})), EventLogMismatchError),
        (MACHINE.statement({**PCRS, 4: PCRS[5]}, quote=MACHINE.quote(PCRS)), EventLogMismatchError),
    ],
    ids=[
        "sha1", "sm3", "no bank", "a bank twice", "sha1 beside sha256", "other values", "one other value",
        "a value is missing", "more values", "nothing", "no values", "neither log nor values", "a value was changed",
    ],
)  # fmt: skip
def test_values_must_be_those_of_exactly_the_quoted_bank_and_pcrs(
    statement: TpmStatement, error: type[NotGenuineError]
) -> None:
    with pytest.raises(error):
        judged(statement)


def test_a_launch_may_stand_beside_a_boot_and_both_must_replay() -> None:
    statement = MACHINE.statement(WITH_LAUNCH, events=LAUNCH, event_log=LOG)
    proven = judged(statement)
    assert set(proven.measurements) == {*(e.measurement.name for e in LAUNCH), *(f"pcr{n}" for n in range(24))}
    assert failed(proven, event_log=LogRule.FIRMWARE) == []
    without = {n: v for n, v in PCRS.items() if n != MEASURED_PCR}
    for pcrs, error in ((PCRS, EventLogMismatchError), (without, WrongSelectionError)):
        with pytest.raises(error):
            judged(MACHINE.statement(pcrs, events=LAUNCH, event_log=LOG))
    for events in (LAUNCH[:4], (*LAUNCH, LAUNCH[0]), LAUNCH[::-1], (*LAUNCH, LoggedEvent(8, MEASUREMENTS[0]))):
        with pytest.raises(EventLogMismatchError):
            judged(replace(statement, events=events))
    values = registers(agile_log(boot(), (wire.ALG_SHA384,)), wire.ALG_SHA384)
    with pytest.raises(WrongBankError):
        judged(MACHINE.statement(values, quote=MACHINE.quote(values, bank=wire.ALG_SHA384), events=LAUNCH))


def test_a_launch_alone_needs_no_values() -> None:
    pcrs = {MEASURED_PCR: expected_pcr(MEASUREMENTS)}
    proven = judged(MACHINE.statement({}, quote=MACHINE.quote(pcrs), events=LAUNCH))
    assert proven.measurements["pcr14"] == pcrs[14].hex()
    assert failed(proven, event_log=LogRule.LAUNCH_OR_FIRMWARE, secure_boot=SecureBootRule.WHEN_LOGGED) == []
    assert failed(proven, event_log=LogRule.FIRMWARE) == ["event-log"]
    assert failed(proven, secure_boot=SecureBootRule.REQUIRED) == ["secure-boot"]


@pytest.mark.parametrize(
    "log",
    [
        agile_log([*boot(), Logged(3, 1, b"more")]),
        agile_log(boot()[1:]),
        agile_log(boot(secure=b"\0")),
        agile_log([]),
    ],
    ids=["one more", "one less", "another", "none"],
)
def test_a_firmware_log_that_does_not_replay_is_refused(log: bytes) -> None:
    with pytest.raises(EventLogMismatchError):
        judged(MACHINE.statement(PCRS, event_log=log))


def test_a_log_without_the_quoted_bank_is_refused() -> None:
    for log in (old_log(boot()), agile_log(boot(), (wire.ALG_SHA1,))):
        with pytest.raises(MalformedError, match="no digests of the bank"):
            judged(MACHINE.statement(PCRS, event_log=log))


def test_what_an_operating_system_extends_later_is_not_read_from_the_log() -> None:
    more = {8: bytes(31) + b"\1", 11: bytes(31) + b"\2"}
    proven = judged(MACHINE.statement({**PCRS, **more}, event_log=LOG))
    assert proven.details["firmware log"] == "replays to PCR 0 1 2 3 4 5 6 7 9"
    assert "boot loader's last text" not in proven.details
    assert failed(proven, event_log=LogRule.FIRMWARE, secure_boot=SecureBootRule.REQUIRED) == []


def test_a_machine_whose_firmware_measured_nothing_has_no_log() -> None:
    for log in (agile_log([]), agile_log([event for event in boot() if event.register == 8])):
        proven = judged(MACHINE.statement(registers(log), event_log=log))
        assert failed(proven, event_log=LogRule.FIRMWARE) == ["event-log"]
        assert failed(proven, secure_boot=SecureBootRule.WHEN_LOGGED) == ["secure-boot"]


def test_a_log_proves_nothing_of_what_was_not_quoted() -> None:
    some = {number: PCRS[number] for number in (0, 4, 14)}
    proven = judged(MACHINE.statement(some, event_log=LOG))
    assert proven.details["secure boot"] == "unknown"
    assert failed(proven, event_log=LogRule.LAUNCH_OR_FIRMWARE) == ["event-log"]
    assert failed(proven, secure_boot=SecureBootRule.WHEN_LOGGED) == ["secure-boot"]


def machine_with(**changed: Any) -> Genuine[TpmEvidence]:
    log = agile_log(boot(secure=b"\0"))
    values = registers(log)
    return judged(MACHINE.statement(values, quote=MACHINE.quote(values, **changed), event_log=log))


@pytest.mark.parametrize(
    ("field", "value", "claim"),
    [
        ("clock_must_be_safe", True, "clock-safe"),
        ("banks", (Bank.SHA384,), "bank"),
        ("banks", (), "bank"),
        ("secure_boot", SecureBootRule.REQUIRED, "secure-boot"),
        ("secure_boot", SecureBootRule.WHEN_LOGGED, "secure-boot"),
        ("firmware_versions", Allowed(("0000000000000008",)), "tpm-firmware"),
        ("firmware_versions", Allowed(()), "tpm-firmware"),
        ("ak_vouched_by", (Voucher.ENROLMENT,), "key-vouched-by"),
        ("ak_vouched_by", (), "key-vouched-by"),
        ("revocation", RevocationRule.REQUIRED, "revocation"),
    ],
)
def test_each_field_of_the_policy_refuses(field: str, value: Any, claim: str) -> None:
    proven = machine_with(safe=0)
    assert failed(proven) == []
    assert failed(proven, **{field: value}) == [claim]
    assert failed(judged(MACHINE.statement(PCRS)), event_log=LogRule.LAUNCH_OR_FIRMWARE) == ["event-log"]


def test_the_listed_firmware_is_taken() -> None:
    assert failed(machine_with(), firmware_versions=Allowed(("0000000000000007",)), clock_must_be_safe=True) == []


def test_evidence_that_was_not_found_genuine_is_never_wanted() -> None:
    proven = judged(MACHINE.statement(PCRS))
    unjudged = replace(proven, statement=VERIFIER.parse(proven.statement.body.to_bytes()))
    assert failed(unjudged) == ["quote"]


@pytest.mark.parametrize("policy", [LAX, Tpm2Policy.strictest()])
def test_a_policy_reads_what_it_writes_and_wants_every_field(policy: Tpm2Policy) -> None:
    written = policy.to_json()
    with Fields(written, "tpm2") as fields:
        assert Tpm2Policy.read(fields) == policy
    for name in written:
        for wrong in ({k: v for k, v in written.items() if k != name}, written | {name: 1}, written | {name: ["x"]}):
            with pytest.raises(MalformedError), Fields(wrong, "tpm2") as fields:
                Tpm2Policy.read(fields)
    with pytest.raises(MalformedError), Fields(written | {"extra": 1}, "tpm2") as fields:
        Tpm2Policy.read(fields)


@pytest.mark.parametrize("name", ["banks", "ak_vouched_by"])
def test_a_choice_stands_in_a_policy_once(name: str) -> None:
    written = LAX.to_json()
    values = written[name]
    assert isinstance(values, list)
    with pytest.raises(MalformedError), Fields(written | {name: [values[0], values[0]]}, "tpm2") as fields:
        Tpm2Policy.read(fields)


def test_longer_chains_than_are_walked_are_refused() -> None:
    above = MACHINE.root
    ders: list[bytes] = []
    for number in range(6):
        above = Authority.make(f"level {number}", above)
        ders.insert(0, above.der)
    machine = VirtualTpm(MACHINE.root, above, MACHINE.key)
    collateral = tuple(item(CollateralKind.CERTIFICATE, der) for der in ders)
    with pytest.raises(ChainRefusedError):
        judged(machine.statement(PCRS, ak_certificates=(machine.certificate,)), collateral=collateral)
