"""Which models are marked copies of which stands in the signed policy, and a change of it is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.access.policy import ModelTerms, Policy
from strongroom.client.default_policy import default_policy
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId
from strongroom.framework.levels import SecurityLevel
from strongroom.release.policy_diff import Mark, differences

ATLAS, ACME = ModelId("atlas"), ModelId("atlas-acme")


def policy(copy_of: ModelId | None) -> Policy:
    terms = ModelTerms(model=ATLAS, level=SecurityLevel.SL2, least_isolation="cvm", export=True)
    made = default_policy(Digest.of(b"genesis"))
    return replace(made, models=(terms, replace(terms, model=ACME, copy_of=copy_of)))


def test_copies_survive_being_signed_and_read() -> None:
    for copy_of, copies in ((ATLAS, (ACME,)), (None, ())):
        read = Policy.parse(policy(copy_of).to_bytes())
        assert read == policy(copy_of)
        assert read.copies_of(ATLAS) == copies
        assert read.copies_of(ACME) == ()


def test_a_copy_of_itself_is_refused() -> None:
    with pytest.raises(MalformedError):
        Policy.parse(policy(ACME).to_bytes())


def test_a_change_is_shown() -> None:
    for was, becomes, said in (
        (None, ATLAS, "a marked copy of `atlas`, was none"),
        (ATLAS, None, "no marked copy any more, was one of `atlas`"),
    ):
        (found,) = differences(policy(was), policy(becomes))
        assert (found.mark, found.text) == (Mark.CHANGED, f"model `atlas-acme`: {said}")
