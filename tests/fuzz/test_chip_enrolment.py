"""Whatever a machine hands in to be enrolled by: it is refused with an error of ours, for every kind of chip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.attester import NOW, tpm_root, vendor_root
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bindings import Slot
from strongroom.attestation.chip_enrolment import EnrolmentBinding, begin_chip, finish_chip
from strongroom.attestation.collateral import NO_COLLATERAL
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.attestation.registry import VERIFIERS
from strongroom.attestation.transcript import Binding
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.ids import ImageId, ModelId

GENESIS = Digest.of(b"genesis")
CHIPS = [kind for kind in EvidenceKind if kind is not EvidenceKind.TPM2 and not kind.is_device]
VALUES = ReferenceValues(
    genesis=GENESIS,
    epoch=1,
    images=(ReferenceImage(image=ImageId("any"), measured={EvidenceKind.SEV_SNP: ({"measurement": "00" * 48},)}),),
    anchors=(tpm_root(vendor_root()),),
    appraisal=AppraisalPolicy.strictest(*CHIPS),
    not_after=NOW + 60,
)


@given(
    st.sampled_from(CHIPS), st.binary(max_size=300) | st.sampled_from([b"{}", b"[]", b"\xd2\x84", b"HCLA" + bytes(64)])
)
def test_any_bytes_enrol_nothing(kind: EvidenceKind, body: bytes) -> None:
    pending = begin_chip(kind, genesis=GENESIS, session="s", nonce=bytes(32), at=NOW)
    with pytest.raises(StrongroomError):
        finish_chip(pending, body, reference_values=VALUES, collateral=NO_COLLATERAL, at=NOW)


@given(
    st.binary(min_size=32, max_size=32),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64),
)
def test_an_enrolment_commits_to_its_session_nonce_and_kind_in_domains_of_its_own(nonce: bytes, session: str) -> None:
    seen: set[bytes] = set()
    for kind in CHIPS:
        made = EnrolmentBinding(genesis=GENESIS, session=session, kind=kind, nonce=nonce)
        other = EnrolmentBinding(
            genesis=GENESIS, session=session + "x" if len(session) < 64 else "x", kind=kind, nonce=nonce
        )
        assert set(made.item().values) == VERIFIERS[kind].slots
        release = Binding(
            genesis=GENESIS,
            challenge=session,
            nonce=nonce,
            request=GENESIS,
            model=ModelId("atlas"),
            version=1,
            manifest=GENESIS,
            recipient_key=GENESIS,
            devices=GENESIS,
        ).item(kind)
        for slot, value in made.item().values.items():
            if slot is Slot.NONCE:
                continue
            assert value != release.values[slot]
            assert value != other.item().values[slot]
            assert value not in seen
            seen.add(value)


@pytest.mark.parametrize("kind", [kind for kind in EvidenceKind if kind not in CHIPS])
def test_tpms_and_devices_are_not_enrolled_so(kind: EvidenceKind) -> None:
    with pytest.raises(MalformedError):
        begin_chip(kind, genesis=GENESIS, session="s", nonce=bytes(32), at=NOW)
