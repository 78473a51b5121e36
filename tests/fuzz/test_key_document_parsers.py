"""Certificates, custodians' words and what a locked keeper is handed, changed in any place: read, or refused as ours.

One object has one form: the targets see to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.targets.destructions import DESTRUCTIONS, sample_certificate
from fuzz.targets.escrow import ESCROW
from fuzz.targets.target import Target
from strongroom.client.certificates import certificate_lines

DOCUMENTS: Final[Mapping[str, Target]] = {**DESTRUCTIONS, **ESCROW}


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for target in DOCUMENTS.values():
        target(data)


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
@given(st.data())
def test_any_change_of_a_good_one(name: str, data: st.DataObject) -> None:
    target = DOCUMENTS[name]
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
