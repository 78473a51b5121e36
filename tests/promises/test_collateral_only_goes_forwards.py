"""What is imported never takes the place of something newer, and an import is whole or nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import nvidia_chain, sev_snp_chain
from simulators.intel_chain import ISSUED, NOW, intel_chain
from strongroom.attestation.bundle.format import EMPTY, Bundle
from strongroom.attestation.bundle.merge import CollateralRollbackError, admit, merge
from strongroom.attestation.bundle.proof import CollateralUnprovenError
from strongroom.attestation.bundle.reading import ReadItem
from strongroom.attestation.collateral import CollateralItem, CollateralKind
from support.collateral import certificate, items, simulated_anchors, whole

DAY = 86400


def intel(**said: int) -> Bundle:
    return items((CollateralKind.INTEL_TCB, intel_chain().collateral(**said)))  # type: ignore[arg-type]  # numbers only


def answered(at: int) -> Bundle:
    made = nvidia_chain.maker()
    return items((CollateralKind.OCSP_ANSWER, nvidia_chain.answer(made.family, made.root, at=at, until=at + DAY)))


def test_newer_ones_take_the_place_of_older_ones() -> None:
    held = merge(EMPTY, intel()).bundle
    merged = merge(held, intel(issued=ISSUED + 60, evaluation=21))
    assert (merged.added, merged.replaced, len(merged.bundle.items)) == (0, 1, 1)
    assert merged.bundle == intel(issued=ISSUED + 60, evaluation=21) or merged.bundle.items[0].item.not_before > ISSUED


@pytest.mark.parametrize(
    ("held", "older"),
    [
        (intel(issued=ISSUED), intel(issued=ISSUED - 60)),
        # Issued later, and of an earlier recovery of the TCB: levels that Intel has since taken back.
        (intel(issued=ISSUED, evaluation=21), intel(issued=ISSUED + 60, evaluation=20)),
        (answered(NOW), answered(NOW - 1)),
    ],
    ids=["issued before", "earlier evaluation", "answered before"],
)
def test_older_ones_are_refused(held: Bundle, older: Bundle) -> None:
    with pytest.raises(CollateralRollbackError, match="older than the one that is held"):
        merge(held, older)
    # Whatever else comes with it.
    more = Bundle.of((*older.items, *items(certificate(sev_snp_chain.authorities().ask.der)).items))
    with pytest.raises(CollateralRollbackError):
        merge(held, more)


def test_the_same_again_changes_nothing() -> None:
    merged = merge(whole(), whole())
    assert not merged.changed
    assert merged.bundle == whole()


def test_one_technologys_collateral_leaves_the_others() -> None:
    both = merge(intel(), items((CollateralKind.INTEL_TCB, intel_chain().collateral(tee="SGX")))).bundle
    assert len(both.items) == 2


def test_an_import_is_whole_or_nothing() -> None:
    stranger = sev_snp_chain._authority("SEV-Genoa", None)
    handed_in = Bundle.of((*whole().items, *items(certificate(stranger.der)).items))
    with pytest.raises(CollateralUnprovenError) as caught:
        admit(EMPTY, handed_in, simulated_anchors(), NOW)
    assert "1 of the items: certificate `CN=SEV-Genoa" in caught.value.message
    merged, makers = admit(EMPTY, whole(), simulated_anchors(), NOW)
    assert merged.added == len(whole().items) == len(makers)


def test_what_is_held_vouches_for_what_comes_later() -> None:
    made = sev_snp_chain.authorities()
    chip = items(certificate(sev_snp_chain.Machine().certificate()))
    held, _makers = admit(EMPTY, items(certificate(made.ask.der)), simulated_anchors(), NOW)
    assert admit(held.bundle, chip, simulated_anchors(), NOW)[0].added == 1
    with pytest.raises(CollateralUnprovenError):
        admit(EMPTY, chip, simulated_anchors(), NOW)


ORDERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6)


@given(files=st.lists(st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 3), st.integers(0, 3)))))
def test_no_series_ever_goes_back(files: list[dict[str, tuple[int, int]]]) -> None:
    held = EMPTY
    for file in files:
        before = {read.series: read.order for read in held.items}
        try:
            held = merge(held, Bundle.of(made(series, order) for series, order in file.items())).bundle
        except CollateralRollbackError:
            lower = [series for series, order in file.items() if any(map(int.__lt__, order, before.get(series, order)))]
            assert lower
            continue
        after = {read.series: read.order for read in held.items}
        assert before.keys() <= after.keys()
        for series, order in before.items():
            assert all(map(int.__ge__, after[series], order))


@given(orders=ORDERS)
def test_of_several_in_one_file_none_that_is_newer_is_lost(orders: list[tuple[int, int]]) -> None:
    kept = merge(EMPTY, Bundle.of(made("a", order) for order in orders)).bundle.items
    assert len(kept) == 1
    assert not any(
        other != kept[0].order and all(map(int.__ge__, other, kept[0].order)) for other in itertools.chain(orders)
    )


def made(series: str, order: tuple[int, int]) -> ReadItem:
    data = f"{series} {order}".encode()
    item = CollateralItem(
        kind=CollateralKind.REVOCATION_LIST, name=series, data=data, not_before=order[0], not_after=order[1]
    )
    return ReadItem(item=item, series=series, order=order)
