"""Certificates and custodians' words, changed in any place: read, or refused as ours; and one object has one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.targets.destructions import DESTRUCTIONS, sample_certificate
from strongroom.client.certificates import certificate_lines


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for target in DESTRUCTIONS.values():
        target(data)


@pytest.mark.parametrize("name", sorted(DESTRUCTIONS))
@given(st.data())
def test_any_change_of_a_good_one(name: str, data: st.DataObject) -> None:
    target = DESTRUCTIONS[name]
    seed = data.draw(st.sampled_from(list(target.seeds())))
    at, length = data.draw(st.integers(0, len(seed))), data.draw(st.integers(0, 40))
    target(seed[:at] + data.draw(st.binary(max_size=40)) + seed[at + length :])
    target(seed)


def test_everything_in_a_certificate_is_told() -> None:
    text = "\n".join(certificate_lines(sample_certificate()))
    for told in (
        "atlas",
        "rina, sam",
        "to be erased by the service",
        "the share of sam",
        "and 1 requests more",
        "the backup",
    ):
        assert told in text
