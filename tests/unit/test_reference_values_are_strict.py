from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulators.attester import APPRAISAL, GENESIS, MEASUREMENTS, NOW, attester, binding, tpm_root, vendor_root
from strongroom.attestation.appraisal import appraise
from strongroom.attestation.evidence import MAX_BODY, MAX_DEVICES, MAX_EVIDENCE, Evidence, EvidenceItem
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage, ReferenceValues
from strongroom.attestation.tpm.quote import MAX_ATTEST
from strongroom.attestation.tpm.signature import MAX_SIGNATURE
from strongroom.attestation.tpm.statement import TpmStatement
from strongroom.attestation.trust_anchors import TrustAnchor, Vendor
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import sign, verify
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ImageId
from strongroom.core.signature import Ed25519Signer, SignatureError

IMAGE = ReferenceImage.launched(ImageId("embedder"), MEASUREMENTS)
VALUES = ReferenceValues(
    genesis=GENESIS,
    epoch=3,
    images=(IMAGE,),
    anchors=(tpm_root(vendor_root()),),
    appraisal=APPRAISAL,
    not_after=NOW,
)


def test_reference_values_round_trip() -> None:
    assert ReferenceValues.parse(VALUES.to_bytes()) == VALUES
    assert VALUES.digest == Digest.of(VALUES.to_bytes())


def test_a_quorum_signs_them_and_one_key_is_not_a_quorum() -> None:
    signers = [Ed25519Signer.from_seed(bytes([i]) * 32) for i in range(3)]
    keys = [signer.public_key for signer in signers]
    verify(sign(REFERENCE_VALUES_TYPE, VALUES.to_bytes(), *signers[:2]), REFERENCE_VALUES_TYPE, keys, threshold=2)
    with pytest.raises(SignatureError):
        verify(sign(REFERENCE_VALUES_TYPE, VALUES.to_bytes(), signers[0]), REFERENCE_VALUES_TYPE, keys, threshold=2)


SET = dict(IMAGE.measured[EvidenceKind.TPM2][0])
SNP = {"measurement": "11" * 48}
HOST = {"host_data": "33" * 32}


def measuring(**kinds: tuple[dict[str, str], ...]) -> ReferenceImage:
    return replace(IMAGE, measured={EvidenceKind(kind.replace("_", "-")): sets for kind, sets in kinds.items()})


@pytest.mark.parametrize(
    "images",
    [
        (measuring(tpm2=({name: value for name, value in SET.items() if name != "command"},)),),
        (measuring(tpm2=({},)),),
        (measuring(tpm2=()),),
        (measuring(),),
        (measuring(nvidia_gpu=({"driver_version": "535.86.09"},)),),
        (measuring(tpm2=({**SET, "seventh": "00"},)),),
        (measuring(tpm2=({**SET, "genesis": str(Digest.of(b"x"))},)),),
        (IMAGE, IMAGE),
        (IMAGE, replace(IMAGE, image=ImageId("other"), revoked=True)),
        (IMAGE, replace(measuring(tpm2=({**SET, "command": str(Digest.of(b"x"))}, SET)), image=ImageId("other"))),
        (IMAGE, replace(measuring(tpm2=({**SET, "pcr7": "00" * 32},)), image=ImageId("other"), revoked=True)),
        (measuring(sev_snp=(SNP,)), replace(measuring(sev_snp=({**SNP, **HOST},)), image=ImageId("other"))),
        (
            measuring(sev_snp=({**SNP, **HOST},)),
            replace(measuring(sev_snp=({**SNP, "id_key_digest": "22" * 48},)), image=ImageId("other")),
        ),
    ],
    ids=[
        "four",
        "nothing measured",
        "no alternative",
        "no kind",
        "a device alone",
        "six",
        "other genesis",
        "twice",
        "same measurements",
        "one alternative the same",
        "the same, and more",
        "the same, and what the host chose",
        "the same, and two different things more",
    ],
)
def test_contradictory_images_are_refused(images: tuple[ReferenceImage, ...]) -> None:
    with pytest.raises(MalformedError):
        replace(VALUES, images=images)


def test_images_that_no_evidence_is_of_at_once_stand_side_by_side() -> None:
    for first, second in (
        (({**SNP, **HOST}, SNP), {"measurement": "44" * 48, **HOST}),
        (({**SNP, **HOST},), {**SNP, "host_data": "55" * 32}),
    ):
        images = (measuring(sev_snp=first), replace(measuring(sev_snp=(second,)), image=ImageId("other")))
        assert replace(VALUES, images=images).images == images


def test_any_alternative_of_an_image_will_do_as_a_whole() -> None:
    other = {name: str(Digest.of(b"another " + name.encode())) for name in SET} | {"genesis": SET["genesis"]}
    values = replace(VALUES, images=(measuring(tpm2=(other, SET)),), not_after=NOW + 1)
    mixed = replace(VALUES, images=(measuring(tpm2=(other, {**other, "files": SET["files"]})),), not_after=NOW + 1)
    bound, record = binding(), attester().record()

    def reason(known: ReferenceValues) -> str:
        return appraise(attester().evidence(bound), binding=bound, record=record, reference_values=known, at=NOW).reason

    assert (reason(values), reason(mixed)) == ("", "unwanted-interpreter")


@pytest.mark.parametrize("isolation", [one for one in IsolationClass if one is not IsolationClass.VM_SIMULATED])
def test_a_chip_maker_s_root_that_somebody_brings_along_is_for_tests_only(isolation: IsolationClass) -> None:
    with pytest.raises(MalformedError):
        replace(VALUES, anchors=(TrustAnchor(Vendor.AMD_SEV, vendor_root(), isolation),))
    made = replace(VALUES, anchors=(TrustAnchor(Vendor.AMD_SEV, vendor_root(), IsolationClass.VM_SIMULATED),))
    assert made.anchors[0].simulated


def changed(**members: Any) -> bytes:
    value = decode(VALUES.to_bytes())
    assert isinstance(value, dict)
    return encode({name: item for name, item in (value | members).items() if item != "absent"})


APPRAISAL_JSON: Any = APPRAISAL.to_json()


def anchor_json(**members: str) -> dict[str, str]:
    root = vendor_root()
    honest = {"vendor": "tpm", "digest": str(Digest.of(root)), "certificate": to_base64(root), "class": "vm-simulated"}
    return honest | members


@pytest.mark.parametrize(
    "members",
    [
        {"v": 2},
        {"epoch": 0},
        {"extra": 1},
        {"not_after": "absent"},
        {"genesis": "sha256:00"},
        {"images": [{"image": "embedder", "measured": {}, "revoked": False}]},
        {"images": [{"image": "embedder", "measured": {"abacus": [{"pcr0": "00"}]}, "revoked": False}]},
        {"images": [{"image": "embedder", "measured": {"tpm2": [{"command": 1}]}, "revoked": False}]},
        {"appraisal": {"v": 1, "reattest_seconds": 3600, "devices": None, "kinds": {}}},
        {"appraisal": {**APPRAISAL_JSON, "devices": {"gpus": [8], "switches": [4], "topology": "8x4"}}},
        {"appraisal": {**APPRAISAL_JSON, "reattest_seconds": 3601}},
        {"appraisal": {**APPRAISAL_JSON, "extra": 1}},
        {"custody": [{"platform": "tpm-00", "record": str(Digest.of(b"")), "until": "2030-01-01T00:00:00Z"}]},
        {"anchors": [anchor_json(digest=str(Digest.of(b"")))]},
        {"anchors": [anchor_json(digest=str(Digest.of(b"x")), certificate=to_base64(b"x"))]},
        {"anchors": [anchor_json(**{"class": "cvm"})]},
        {"anchors": [anchor_json(vendor="acme")]},
        {"anchors": [anchor_json(), anchor_json(vendor="amd-sev")]},
    ],
)
def test_another_form_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        ReferenceValues.parse(changed(**members))


def test_the_image_that_is_asked_for_is_the_only_one_that_will_do() -> None:
    events = (replace(MEASUREMENTS[0], digest=Digest.of(b"newer")), *MEASUREMENTS[1:])
    values = replace(VALUES, images=(IMAGE, ReferenceImage.launched(ImageId("newer"), events)), not_after=NOW + 1)
    bound, record = binding(), attester().record()
    evidence = attester().evidence(bound, events)

    def image(asked: str | None) -> str:
        wanted = ImageId(asked) if asked else None
        result = appraise(evidence, binding=bound, record=record, reference_values=values, at=NOW, image=wanted)
        return result.image or result.reason

    assert (image(None), image("newer"), image("embedder")) == ("newer", "newer", "unwanted-interpreter")


def test_evidence_is_bounded_before_it_is_parsed() -> None:
    honest = attester().evidence(binding())
    device = EvidenceItem(EvidenceKind.NVIDIA_GPU, b"{}")
    assert len(honest.to_bytes()) < MAX_EVIDENCE
    for wrong in (
        {"recipient_key": bytes(1215)},
        {"recipient_key": bytes(1217)},
        {"devices": (device,) * (MAX_DEVICES + 1)},
        {"devices": (honest.main,)},
        {"main": device},
    ):
        with pytest.raises(MalformedError):
            replace(honest, **wrong)
    with pytest.raises(MalformedError, match="at most"):
        Evidence.parse(b" " * (MAX_EVIDENCE + 1))
    with pytest.raises(MalformedError, match="at most"):
        Evidence.parse(replace(honest, main=EvidenceItem(EvidenceKind.TPM2, bytes(MAX_BODY + 1))).to_bytes())
    statement = TpmStatement.parse(honest.main.body)
    for oversized in (
        replace(statement, events=statement.events * 4),
        replace(statement, quote=bytes(MAX_ATTEST + 1)),
        replace(statement, signature=bytes(MAX_SIGNATURE + 1)),
    ):
        with pytest.raises(MalformedError):
            TpmStatement.parse(oversized.to_bytes())
    assert Evidence.parse(replace(honest, devices=(device,)).to_bytes()).devices == (device,)
