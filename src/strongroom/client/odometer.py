"""How far a model's odometer stands, as the log proves it to a wallet's owner."""

from __future__ import annotations

from collections.abc import Iterable

from strongroom.audit.entries import Entry
from strongroom.audit.merkle import leaf_hash, verify_inclusion
from strongroom.client.service import Session
from strongroom.client.told import OdometerTold
from strongroom.client.trust import StateMismatchError, Trust
from strongroom.core.ids import ModelId
from strongroom.egress.odometer import OdometerEntry
from strongroom.release.metering import odometer_of, read_odometer


def proven_reading(session: Session, trust: Trust, model: ModelId, told: OdometerTold) -> OdometerEntry | None:
    """Return a model's newest odometer entry; None where the server says that there is none.

    That there is no newer one is the server's word: whoever needs proof of that reads the whole log.

    :raises StateMismatchError: the entry isn't there, or says something else than the server.
    :raises EntryForgedError: the keeper didn't sign it. :raises ProofError: it doesn't stand there in the log.
    """
    if told.index is None:
        return None
    if told.index >= trust.head.size:
        # It was written after the state was fetched: a log that holds it is asked for.
        trust = session.refresh()
    entry = _proven(session, trust, model, told.index)
    reading = odometer_of(entry)
    if reading.total > told.total or reading.run != told.run:
        raise StateMismatchError(f"the server says something else of the odometer of `{model}` than the log")
    return reading


def metered_models(session: Session, models: Iterable[ModelId]) -> frozenset[ModelId]:
    """Return which of these models have an odometer, as the server says. The keeper asks its log, and no server."""
    told = {model: session.api.odometer(model) for model in models}
    return frozenset(model for model, one in told.items() if one.total or one.run)


def _proven(session: Session, trust: Trust, model: ModelId, index: int) -> Entry:
    found = session.api.entries(index, 1)
    if not found or index >= trust.head.size:
        raise StateMismatchError(f"the log shows no entry {index}, where the server says the odometer stands")
    entry = read_odometer(found[0], trust.genesis.keeper_key, model)
    _leaf, proof = session.api.inclusion(index, trust.head.size)
    verify_inclusion(
        index=index, size=trust.head.size, leaf=leaf_hash(found[0]), proof=proof, root=trust.head.root.value
    )
    return entry
