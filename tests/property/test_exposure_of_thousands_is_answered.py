"""However many could have had a model's bytes, the answer counts all of them and names the most exposed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.reading import exposure as shelf
from strongroom.audit.reading.exposure import TOLD, Exposure, Freeze, Holding, LetOut, Way
from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.response.exposure import MAX_EXPOSURE, read_exposure

NOW = 1_795_000_000
D = str(Digest.of(b"x"))


def holding(
    place: int, *, until: int | None, bits: int = 0, person: str = "rina", platform: str | None = "p"
) -> Holding:
    return Holding(
        way=Way.RELEASED,
        version=place % 7,
        request=D,
        use=place,
        recipient=D,
        person=person,
        approvers=("omar",),
        platform=platform,
        since=NOW,
        until=until,
        bits=bits,
        proof=(place,),
    )


def answered(holdings: tuple[Holding, ...], freezes: tuple[Freeze, ...] = ()) -> Exposure:
    return Exposure(
        model="atlas",
        holdings=holdings,
        freezes=freezes,
        let_out=LetOut(ever=9, within=7, last=3),
        registered={version: version for version in range(5000)},
        entries=12,
    )


HOLDINGS = st.lists(
    st.builds(
        lambda until, bits, person, platform: (until, bits, person, platform),
        st.none() | st.integers(NOW, NOW + 5),
        st.integers(0, 3),
        st.sampled_from(["", "rina", "omar"]),
        st.sampled_from([None, "p", "q"]),
    ),
    max_size=30,
).map(
    lambda rows: tuple(
        holding(place, until=until, bits=bits, person=person, platform=platform)
        for place, (until, bits, person, platform) in enumerate(rows)
    )
)


@given(HOLDINGS, st.integers(0, 8))
def test_all_are_counted_and_the_most_exposed_are_named(holdings: tuple[Holding, ...], told: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "TOLD", told)
        read = read_exposure(answered(holdings).to_json(), theft_bits=0)
    assert read.totals.holdings == len(holdings)
    assert read.totals.for_ever == len([one for one in holdings if one.until is None])
    assert read.totals.people == len({one.person for one in holdings} - {""})
    assert read.totals.hosts == len({one.platform for one in holdings} - {None})
    assert read.could_be_whole is any(one.until is None for one in holdings)
    ends = sorted((one.until or NOW * 2, one.bits) for one in holdings)
    assert [(one.until or NOW * 2, one.bits) for one in read.holders] == ends[::-1][:told]


def test_ten_thousand_are_answered_within_bounds() -> None:
    many = tuple(holding(place, until=NOW + place, person=f"p{place}") for place in range(10_000))
    wide = tuple(replace(one, approvers=tuple(f"{n:064}" for n in range(256))) for one in many[:200])
    for holdings in (many, wide, (*many, *wide)):
        freezes = tuple(Freeze(since=at, until=at, proof=(at, at)) for at in range(3000))
        told: Any = answered(holdings, freezes).to_json()
        assert len(encode(told)) < MAX_EXPOSURE
        read = read_exposure(told, theft_bits=0)
        assert read.totals.holdings == len(holdings)
        assert 0 < len(read.holders) <= TOLD
        assert told["totals"]["freezes"] == len(freezes)
        assert told["freezes"][-1] == freezes[-1].to_json()


def test_the_list_holds_everybody_whole_and_the_answer_names_it() -> None:
    long = replace(holding(1, until=NOW), proof=tuple(range(20_000)), isolation=("full", "none") * 500)
    exposure = answered((long, holding(2, until=None)))
    told: Any = exposure.to_json()
    lines = b"".join(exposure.lines())
    assert told["list"] == f"sha256:{hashlib.sha256(lines).hexdigest()}"
    assert json.loads(lines.splitlines()[0])["entries"] == [*range(20_000)]
    (shown,) = (one for one in told["holdings"] if one["use"] == 1)
    assert (shown["entries"][0], shown["entries"][-1], len(shown["entries"])) == (0, 19_999, 32)
    assert shown["more_entries"] == 20_000 - 32


@pytest.mark.parametrize("name", ["holdings", "for_ever", "people", "hosts"])
def test_an_answer_that_counts_fewer_than_it_names_is_refused(name: str) -> None:
    told: Any = answered((holding(1, until=None),)).to_json()
    told["totals"][name] = 0
    with pytest.raises(MalformedError, match="totals"):
        read_exposure(told, theft_bits=0)


@pytest.mark.parametrize("name", ["for_ever", "people", "hosts"])
def test_an_answer_that_counts_more_people_or_hosts_than_holdings_is_refused(name: str) -> None:
    told: Any = answered((holding(1, until=None),)).to_json()
    told["totals"][name] = 2
    with pytest.raises(MalformedError, match="totals"):
        read_exposure(told, theft_bits=0)
