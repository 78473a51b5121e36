"""At each start: does the keyring fit the log? An act that a crash cut short is finished or dropped; older is refused.

Keys are made durable in the keyring before the log hears of them, and taken out of it before the log says that they
are gone. So a keyring is at most one act ahead of the log. A keyring that lacks what the log calls alive, or holds
what the log calls destroyed, is an older one that somebody put back: nothing is opened with it. Pure.

One from a key package lacks the tree that is in no escrow. It is taken: what stood in that tree isn't opened by it,
and nothing is recorded, so that a keyring which has it fits later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from strongroom.audit.facts import Fact
from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.keeper.keyring import Keyring
from strongroom.keys.hierarchy import Tree
from strongroom.keys.split_root import read_root
from strongroom.keys.states import KeyState
from strongroom.release.key_ledger import KeyLedger


class KeyringRolledBackError(TamperedError):
    """The keyring is older than the log, or another deployment's: destroyed keys came back, or some are missing."""

    code = "keyring-rolled-back"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The keyring that fits the log, and what is still to be recorded, in this order."""

    keyring: Keyring
    records: tuple[tuple[EventName, Mapping[str, Fact]], ...]


def reconcile(keyring: Keyring, keys: KeyLedger, *, held: Callable[[ModelId], bool]) -> Reconciled:
    """Compare a keyring with what the log says of its keys.

    :param held: tells whether a hold stands on a model.
    :raises KeyringRolledBackError: it isn't the one that goes with this log.
    """
    if not keys.epochs:
        # The first start of a deployment: what was founded becomes known.
        return Reconciled(keyring, tuple(_created(keyring)))
    records: list[tuple[EventName, Mapping[str, Fact]]] = []
    if keyring.generation != keys.generation:
        records.append(_generation(keyring, keys))
    keyring = _epochs(keyring, keys)
    keyring, retired = _keks(keyring, keys, held)
    return Reconciled(keyring, (*records, *retired))


def providers_digest(keyring: Keyring) -> Digest:
    """Return the digest of the list of key services that hold the root keys, as the log names it."""
    return Digest.of(
        encode({tree.value: [str(part.provider) for part in read_root(stored)] for tree, stored in keyring.roots})
    )


def root_rotated(keyring: Keyring) -> dict[str, Fact]:
    """Return the facts of the rotation that made a keyring's root keys.

    :raises KeyringRolledBackError: they are the founded ones.
    """
    if keyring.authority is None:
        raise _refused("its root keys are of a later generation, and nothing says by whose order")
    return {
        "authority": keyring.authority,
        "generation": keyring.generation,
        "previous": keyring.generation - 1,
        "providers": providers_digest(keyring),
    }


def _created(keyring: Keyring) -> list[tuple[EventName, Mapping[str, Fact]]]:
    if (
        keyring.generation != 1
        or keyring.keks
        or sorted(held.epoch for held in keyring.epochs) != list(range(1, len(keyring.epochs) + 1))
    ):
        raise _refused("it was used, and the log knows of no key")
    return [
        (EventName.EPOCH_CREATED, {"epoch": held.epoch, "escrowed": int(held.tree is Tree.ESCROWED)})
        for held in sorted(keyring.epochs, key=lambda held: held.epoch)
    ]


def _generation(keyring: Keyring, keys: KeyLedger) -> tuple[EventName, Mapping[str, Fact]]:
    if keyring.generation != keys.generation + 1:
        raise _refused(f"its root keys are of generation {keyring.generation}; the log is at {keys.generation}")
    return EventName.ROOT_ROTATED, root_rotated(keyring)


def _epochs(keyring: Keyring, keys: KeyLedger) -> Keyring:
    held = {one.epoch for one in keyring.epochs}
    apart = _lacks_a_tree(keyring)
    for epoch in keys.epochs.values():
        if epoch.state is KeyState.DESTROYED and epoch.epoch in held:
            raise _refused(f"it holds epoch {epoch.epoch}, which was destroyed")
        if epoch.state is KeyState.ACTIVE and epoch.epoch not in held and not (apart and not epoch.escrowed):
            raise _refused(f"it lacks epoch {epoch.epoch}")
    # Made, and nothing recorded of it: nothing was protected with it.
    unknown = held - keys.epochs.keys()
    if unknown - {len(keys.epochs) + 1}:
        raise _refused(f"it holds epoch {max(unknown)}, which the log doesn't know")
    return keyring.without_epochs(unknown)


def _keks(
    keyring: Keyring, keys: KeyLedger, held: Callable[[ModelId], bool]
) -> tuple[Keyring, list[tuple[EventName, Mapping[str, Fact]]]]:
    there = {(one.kek, one.epoch) for one in keyring.keks}
    names = {one.kek for one in keyring.keks}
    apart = _lacks_a_tree(keyring)
    records: list[tuple[EventName, Mapping[str, Fact]]] = []
    for kek in keys.keks.values():
        if kek.state is KeyState.DESTROYED:
            # A destroyed model's is dropped below: its destruction is recorded before the bytes go.
            if kek.kek in names and kek.model not in keys.destroyed:
                raise _refused(f"it holds a KEK of `{kek.model}` that was destroyed")
        elif (kek.kek, kek.epoch) not in there and not (apart and not kek.escrowed):
            # Retired and not recorded yet. An older keyring has the previous KEK, and lacks the new one.
            if kek.state is not KeyState.DEACTIVATED or kek.kek in names:
                raise _refused(f"it lacks the KEK of `{kek.model}`")
            # Which of these were seen under the new KEK isn't known any more: none of them is relied on. All were where
            # a hold stands: else the KEK would be there.
            lost = () if held(kek.model) else keys.unregistered(kek.model, kek.kek)
            records.append((EventName.KEK_RETIRED, {"model": kek.model, "kek": kek.kek, "lost": lost}))
    living = {kek.kek for kek in keys.living()}
    return keyring.without_keks(names - living), records


def _lacks_a_tree(keyring: Keyring) -> bool:
    return all(tree is not Tree.UNESCROWED for tree, _stored in keyring.roots)


def _refused(what: str) -> KeyringRolledBackError:
    return KeyringRolledBackError(
        f"the keyring doesn't go with this log: {what}",
        remedy="put back the newest `keyring.json` or key package; if nobody put an older one there, it is an incident",
    )
