"""However often and wherever the keeper dies while a model's keys are destroyed: it ends whole, nothing comes back."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.audit.entries import read_entry
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.keeper.reconciling import KeyringRolledBackError
from strongroom.keys.wrapping import WrapError
from strongroom.release.chronicle import Chronicle
from strongroom.release.destruction import require_drawn_from, verify_certificate
from support.deployment import MODEL
from support.shredding import DELAY, OTHER, CutShortError, ShreddingRoom

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

MOST_PLACES = 16


@given(
    cuts=st.lists(st.integers(0, MOST_PLACES), max_size=6),
    both=st.booleans(),
    older=st.integers(0, 8),
)
@settings(max_examples=20, deadline=None)
def test_any_crashes_end_in_one_whole_destruction(cuts: list[int], both: bool, older: int) -> None:  # noqa: FBT001
    asyncio.run(destroyed(cuts, [MODEL, OTHER] if both else [MODEL], older))


async def destroyed(cuts: list[int], models: list[ModelId], older: int) -> None:
    here = await ShreddingRoom().furnish()
    agreed = [(await here.ask_to_destroy(model), here.said_yes) for model in models]
    here.clock.at += DELAY
    for request, yes in agreed:
        await here.carry_out(request, yes)
    for left in cuts:
        here.cut(left)
        try:
            await here.shredding.finish()
        except CutShortError:
            await here.restart()
    here.cut(-1)
    await here.shredding.finish()
    assert not here.shredding.unfinished()
    events = [read_entry(data).event for data in here.log.entries]
    for event in (EventName.MODEL_DESTROYED, EventName.DESTRUCTION_CERTIFIED):
        assert events.count(event) == len(models)
    for model in models:
        with pytest.raises(WrapError):
            here.opened(model)
        told = verify_certificate(here.shredding.certificate(model), here.genesis)
        require_drawn_from(told, here.ledger(told.log_size))
    if OTHER not in models:
        assert here.opened(OTHER) == here.keys[OTHER]
    chronicle = Chronicle()
    for index, data in enumerate(here.log.entries):
        chronicle.take(index, read_entry(data))
    assert not chronicle.findings
    await put_back(here, models, older)


async def put_back(here: ShreddingRoom, models: list[ModelId], older: int) -> None:
    """Put back a keyring from before, whichever: it is refused, or opens none of them."""
    history = here.keyrings.history
    history.append(history[max(0, len(history) - 2 - older)])
    try:
        await here.restart()
    except KeyringRolledBackError:
        return
    for model in models:
        with pytest.raises(WrapError):
            here.opened(model)
