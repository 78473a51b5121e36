from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulators.attester import GENESIS, MEASUREMENTS, NOW, attester, binding, vendor_root
from strongroom.attestation.appraisal import appraise
from strongroom.attestation.chain import EkRoot
from strongroom.attestation.evidence import MAX_EVIDENCE, Evidence
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage, ReferenceValues
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import sign, verify
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ImageId
from strongroom.core.signature import Ed25519Signer, SignatureError

IMAGE = ReferenceImage(image=ImageId("embedder"), events=MEASUREMENTS)
VALUES = ReferenceValues(
    genesis=GENESIS,
    epoch=3,
    images=(IMAGE,),
    ek_roots=(EkRoot(vendor_root(), IsolationClass.VM_SIMULATED),),
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


@pytest.mark.parametrize(
    "images",
    [
        (replace(IMAGE, events=MEASUREMENTS[:-1]),),
        (replace(IMAGE, events=()),),
        (replace(IMAGE, events=MEASUREMENTS[::-1]),),
        (replace(IMAGE, events=(*MEASUREMENTS, MEASUREMENTS[-1])),),
        (replace(IMAGE, events=(*MEASUREMENTS[:-1], replace(MEASUREMENTS[-1], digest=Digest.of(b"x")))),),
        (IMAGE, IMAGE),
        (IMAGE, replace(IMAGE, image=ImageId("other"), revoked=True)),
    ],
    ids=["four", "none", "order", "six", "other genesis", "twice", "same measurements"],
)
def test_contradictory_images_are_refused(images: tuple[ReferenceImage, ...]) -> None:
    with pytest.raises(MalformedError):
        replace(VALUES, images=images)


def changed(**members: Any) -> bytes:
    value = decode(VALUES.to_bytes())
    assert isinstance(value, dict)
    return encode({name: item for name, item in (value | members).items() if item != "absent"})


@pytest.mark.parametrize(
    "members",
    [
        {"v": 2},
        {"epoch": 0},
        {"extra": 1},
        {"not_after": "absent"},
        {"genesis": "sha256:00"},
        {"images": [{"image": "embedder", "events": []}]},
        {
            "ek_roots": [
                {"digest": str(Digest.of(b"")), "certificate": to_base64(vendor_root()), "class": "vm-simulated"}
            ]
        },
        {"ek_roots": [{"digest": str(Digest.of(b"x")), "certificate": to_base64(b"x"), "class": "vm-simulated"}]},
        {
            "ek_roots": [
                {"digest": str(Digest.of(vendor_root())), "certificate": to_base64(vendor_root()), "class": "cvm"}
            ]
        },
    ],
)
def test_another_form_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        ReferenceValues.parse(changed(**members))


def test_the_image_that_is_asked_for_is_the_only_one_that_will_do() -> None:
    events = (replace(MEASUREMENTS[0], digest=Digest.of(b"newer")), *MEASUREMENTS[1:])
    values = replace(VALUES, images=(IMAGE, ReferenceImage(image=ImageId("newer"), events=events)), not_after=NOW + 1)
    bound, record = binding(), attester().record()
    evidence = attester().evidence(bound, events)

    def image(asked: str | None) -> str:
        wanted = ImageId(asked) if asked else None
        result = appraise(evidence, binding=bound, record=record, reference_values=values, at=NOW, image=wanted)
        return result.image or result.reason

    assert (image(None), image("newer"), image("embedder")) == ("newer", "newer", "unwanted-interpreter")


def test_evidence_is_bounded_before_it_is_parsed() -> None:
    honest = attester().evidence(binding())
    assert len(honest.to_bytes()) < MAX_EVIDENCE
    for wrong in (
        replace(honest, events=honest.events * 4),
        replace(honest, quote=bytes(513)),
        replace(honest, signature=bytes(600)),
        replace(honest, recipient_key=bytes(1215)),
        replace(honest, recipient_key=bytes(1217)),
    ):
        with pytest.raises(MalformedError):
            Evidence.parse(wrong.to_bytes())
    with pytest.raises(MalformedError, match="at most 16384"):
        Evidence.parse(b" " * (MAX_EVIDENCE + 1))
