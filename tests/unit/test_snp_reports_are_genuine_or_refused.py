"""Every step of judging an SEV-SNP report can refuse, and only AMD's roots make hardware of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from simulators.sev_snp_chain import (
    NOW,
    TCBS,
    Machine,
    anchors,
    authorities,
    chip,
    revocation_list,
    signed,
    signer,
)
from strongroom.attestation.bindings import ExpectedBinding, RecordedBinding, Slot
from strongroom.attestation.errors import (
    BadSignatureError,
    CertificateRevokedError,
    ChainRefusedError,
    CollateralMissingError,
    EndorsementMismatchError,
    EvidenceReplayedError,
    NotGenuineError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.sev_snp import SevSnpPolicy
from strongroom.attestation.sev_snp import certificate_table as table
from strongroom.attestation.sev_snp.body import write_body
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.sev_snp.report import SigningKey
from strongroom.attestation.trust_anchors import TrustAnchors, vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.sev_snp import SevSnpStatement, SevSnpVerifier
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError, UsageError
from support.snp import endorsements

NONCE = bytes(range(64))
VERIFIER = SevSnpVerifier()


def machine(**changed: object) -> Machine:
    return replace(Machine(report_data=NONCE), **changed)  # type: ignore[arg-type]  # each test names real fields


def judged(
    body: bytes,
    *,
    roots: TrustAnchors | None = None,
    certificates: tuple[bytes, ...] = (),
    lists: tuple[bytes, ...] = (),
    at: Instant = NOW,
) -> Genuine[SevSnpStatement]:
    given = endorsements(roots or anchors(), certificates=certificates, lists=lists)
    return VERIFIER.genuine(VERIFIER.parse(body), ExpectedBinding({Slot.REPORT_DATA: NONCE}), given, at)


@pytest.mark.parametrize("product", list(Product))
@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("key", [SigningKey.VCEK, SigningKey.VLEK])
def test_a_report_of_each_product_version_and_key_is_genuine(product: Product, version: int, key: SigningKey) -> None:
    made = machine(product=product, version=version, signing_key=key, mitigations=(7, 3))
    proven = judged(made.body(), lists=(revocation_list(product),))
    assert proven.bound.fresh
    assert proven.revocation_checked
    assert proven.isolation is IsolationClass.VM_SIMULATED
    assert proven.measurements["measurement"] == made.measurement.hex()
    assert proven.hardware_id == (b"" if key is SigningKey.VLEK else chip(product))
    assert proven.details["product"] == product.value
    endorsed = proven.statement.signer
    assert endorsed is not None
    assert endorsed.kind is key
    assert endorsed.provider == (made.provider if key is SigningKey.VLEK else "")
    assert proven.statement.report.current_mitigations == (3 if version == 5 else None)
    assert proven.endorsed_until == NOW - 86400 + 30 * 86400


def test_certificates_may_come_as_collateral() -> None:
    made = machine()
    proven = judged(write_body(made.report()), certificates=(b"broken", authorities().ask.der, made.certificate()))
    assert not proven.revocation_checked


def test_pem_in_the_table_is_read() -> None:
    made = machine()
    pem = x509.load_der_x509_certificate(made.certificate()).public_bytes(Encoding.PEM)
    rows = table.table_of(((table.ASK, authorities().ask.der), (table.VCEK, pem)))
    assert judged(write_body(made.report(), rows)).hardware_id == chip()


def test_makers_roots_refuse_everything_simulated() -> None:
    for product in Product:
        for key in (SigningKey.VCEK, SigningKey.VLEK):
            with pytest.raises(ChainRefusedError):
                judged(machine(product=product, signing_key=key).body(), roots=vendor_anchors())


def test_another_products_root_refuses() -> None:
    with pytest.raises(ChainRefusedError):
        judged(machine(product=Product.GENOA).body(), roots=anchors(Product.TURIN))


def test_check_1_an_unsigned_report_is_refused() -> None:
    with pytest.raises(BadSignatureError, match="isn't signed"):
        judged(machine(signing_key=SigningKey.NONE).body())
    silent = machine().unsigned().ljust(0x4A0, b"\0")
    with pytest.raises(BadSignatureError, match="isn't signed"):
        judged(write_body(silent, machine().certificates()))


def test_check_2_another_keys_signature_is_refused() -> None:
    forged = signed(machine().unsigned(), ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(BadSignatureError, match="signed the report"):
        judged(write_body(forged, machine().certificates()))


def test_check_2_a_vlek_cannot_sign_for_a_vcek() -> None:
    providers = machine(signing_key=SigningKey.VLEK)
    rows = table.table_of(((table.ASK, authorities().asvk.der), (table.VCEK, providers.certificate())))
    chips = machine().unsigned()
    with pytest.raises(BadSignatureError):
        judged(write_body(signed(chips, signer(providers.product, providers.signing_key)), rows))


def test_check_2_without_the_keys_certificate_the_refusal_says_what_to_import() -> None:
    other = machine(certified_chip=b"\x07" * 64).certificate()
    with pytest.raises(CollateralMissingError) as refused:
        judged(write_body(machine().report()), certificates=(other, authorities().ask.der))
    assert chip().hex() in refused.value.wanted
    assert TCBS[Product.GENOA].hex() in refused.value.wanted


CHAIN_FAULTS: dict[str, Callable[[], bytes]] = {
    "an unknown intermediate": lambda: write_body(
        machine().report(), table.table_of(((table.VCEK, machine().certificate()),))
    ),
    "a root as issuer": lambda: machine(issuer=authorities().ark).body(),
    "an expired certificate": lambda: machine(valid_days=-1).body(),
}


@pytest.mark.parametrize("fault", CHAIN_FAULTS)
def test_check_3_a_broken_chain_is_refused(fault: str) -> None:
    with pytest.raises(NotGenuineError) as refused:
        judged(CHAIN_FAULTS[fault]())
    assert isinstance(refused.value, ChainRefusedError | EndorsementMismatchError)


def test_check_3_before_and_after_its_time_nothing_is_genuine() -> None:
    for at in (NOW - 200 * 86400, NOW + 2100 * 86400):
        with pytest.raises(ChainRefusedError, match="valid at this time"):
            judged(machine().body(), at=at)


def test_check_3_a_revoked_intermediate_is_refused() -> None:
    serial = authorities().ask.certificate.serial_number
    with pytest.raises(CertificateRevokedError):
        judged(machine().body(), lists=(revocation_list(revoked=(serial,)),))


def test_check_3_a_list_that_has_ended_or_is_another_roots_checks_nothing() -> None:
    for listed in (revocation_list(days=1), revocation_list(Product.TURIN)):
        assert not judged(machine().body(), lists=(listed,), at=NOW + 60).revocation_checked


def test_check_4_each_intermediate_certifies_its_own_kind_only() -> None:
    rows = ((table.ASK, authorities().asvk.der), (table.VCEK, machine(issuer=authorities().asvk).certificate()))
    with pytest.raises(NotGenuineError):
        judged(write_body(machine().report(), table.table_of(rows)))
    vlek = machine(signing_key=SigningKey.VLEK)
    rows = ((table.ASK, authorities().ask.der), (table.VLEK, replace(vlek, issuer=authorities().ask).certificate()))
    with pytest.raises(NotGenuineError):
        judged(write_body(vlek.report(), table.table_of(rows)))


@pytest.mark.parametrize("name", ["Genoa", "Genoa-B1", "Siena-A0", "Bergamo-A2"])
def test_check_4_the_stepping_and_the_name_within_a_line_do_not_matter(name: str) -> None:
    assert judged(machine(certified_product=name).body()).details["product"] == "genoa"


@pytest.mark.parametrize("cpu", [(0x19, 0x01, 1), (0x1A, 0x02, 1), (0x17, 0x31, 0), (0, 0, 0)])
def test_check_4_a_report_that_names_another_processor_is_refused(cpu: tuple[int, int, int]) -> None:
    with pytest.raises(EndorsementMismatchError, match="processor"):
        judged(machine(cpu=cpu).body())


@pytest.mark.parametrize("cpu", [(0x19, 0xA0, 2), (0x19, 0xA1, 0), (0x19, 0x1F, 0)])
def test_check_4_zen4c_is_genoas_line(cpu: tuple[int, int, int]) -> None:
    assert judged(machine(cpu=cpu).body()).details["product"] == "genoa"


def test_check_4_a_certificate_of_another_product_is_refused() -> None:
    with pytest.raises(EndorsementMismatchError, match="another product"):
        judged(machine(certified_product="Milan-B0", cpu=(0x19, 0x01, 0)).body())
    with pytest.raises(MalformedError, match="product"):
        judged(machine(certified_product="Rome-B0").body())


@pytest.mark.parametrize("product", list(Product))
def test_check_5_a_key_of_another_tcb_version_is_refused_in_every_byte(product: Product) -> None:
    for at in range(8):
        other = bytearray(TCBS[product])
        other[at] ^= 1
        with pytest.raises(EndorsementMismatchError, match="TCB version"):
            judged(machine(product=product, certified_tcb=bytes(other)).body())


def test_check_6_another_chip_is_refused_and_a_masked_one_has_no_name() -> None:
    with pytest.raises(EndorsementMismatchError, match="another chip"):
        judged(machine(chip_id=chip(name="other")).body())
    assert judged(machine(chip_id=bytes(64)).body()).hardware_id == b""


def test_check_6_turins_chip_has_eight_bytes_and_zeros() -> None:
    turin = machine(product=Product.TURIN)
    assert judged(turin.body()).hardware_id == chip(Product.TURIN)
    assert judged(replace(turin, wrapped_chip=True).body()).hardware_id == chip(Product.TURIN)
    with pytest.raises(EndorsementMismatchError, match="another chip"):
        judged(replace(turin, chip_id=chip(Product.TURIN)[:63] + b"\x01").body())


def test_check_7_another_challenge_is_refused_and_a_recording_is_not_fresh() -> None:
    with pytest.raises(EvidenceReplayedError):
        judged(machine(report_data=bytes(64)).body())
    given = endorsements(anchors())
    proven = VERIFIER.genuine(VERIFIER.parse(machine().body()), RecordedBinding(), given, NOW)
    assert not proven.bound.fresh
    assert proven.bound.seen == {Slot.REPORT_DATA: NONCE}
    with pytest.raises(UsageError):
        VERIFIER.genuine(VERIFIER.parse(machine().body()), ExpectedBinding({Slot.NONCE: NONCE}), given, NOW)


@pytest.mark.parametrize("part", ["2", "3.1", "3.2", "3.3", "3.8", "4"])
def test_a_key_certificate_that_leaves_something_out_is_refused(part: str) -> None:
    with pytest.raises(MalformedError):
        judged(machine(without=frozenset({part})).body())
    with pytest.raises(MalformedError):
        judged(machine(product=Product.TURIN, without=frozenset({"3.9"})).body())


@pytest.mark.parametrize("bit", [18, 19])
def test_a_guest_that_others_can_read_is_not_isolated(bit: int) -> None:
    assert judged(machine(policy=Machine().policy | 1 << bit).body()).isolation is IsolationClass.NONE


def test_nothing_is_judged_before_it_is_genuine() -> None:
    proven = judged(machine().body())
    unproven = replace(proven, statement=VERIFIER.parse(machine().body()))
    with pytest.raises(UsageError):
        VERIFIER.judge(unproven, SevSnpPolicy.strictest())
