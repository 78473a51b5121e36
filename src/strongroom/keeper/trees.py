"""The two trees of keys: which one a model's next KEK stands in, and which models can't be opened now or ever again.

A model whose terms say that it is irrecoverable stands in the tree that is in no share and no key package. That tree
gets its root key when the first such model is sealed, or rotated into it.
"""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.access.policy import Policy
from strongroom.access.request import Action, Request
from strongroom.core.errors import LockedError
from strongroom.core.ids import ModelId
from strongroom.keeper.vault import Vault
from strongroom.keys.hierarchy import Tree
from strongroom.release.key_ledger import KeyLedger

_MAKES_KEKS = frozenset({Action.SEAL, Action.ROTATE})


class TreeClosedError(LockedError):
    """The keys that are in no escrow aren't at hand: the key service that alone holds them isn't, or they are lost."""

    code = "tree-closed"


def tree_of(policy: Policy | None, model: ModelId) -> Tree:
    """Return the tree in which a model's next KEK is to stand: the escrowed one, unless the policy says otherwise.

    :raises NoRuleError: the policy doesn't speak of the model: nothing was allowed to be made for it.
    """
    return Tree.of(escrowed=policy is None or policy.terms(model).recoverable)


def wants_tree(policy: Policy | None, keys: KeyLedger) -> bool:
    """Tell whether the policy has irrecoverable models, and the tree for them isn't there yet."""
    if policy is None or keys.current_epoch(escrowed=False) is not None:
        return False
    return any(not terms.recoverable for terms in policy.models)


def makes_kek_apart(policy: Policy | None, request: Request) -> bool:
    """Tell whether a request may make a KEK in the tree that is in no escrow."""
    return request.action in _MAKES_KEKS and tree_of(policy, request.model) is Tree.UNESCROWED


def require_open(vault: Vault, tree: Tree, model: ModelId) -> None:
    """Refuse where a model's tree of keys is closed.

    :raises LockedError: the keeper is locked, and with it every tree.
    :raises TreeClosedError: it is.
    """
    vault.require_unlocked()
    if not vault.opens(tree):
        raise TreeClosedError(
            f"the keys of `{model}` are in no escrow, and what alone opens them isn't at hand",
            remedy="bring the key service back and start the keeper again; where it is lost, the model is",
        )


def irrecoverable(keys: KeyLedger) -> Iterator[ModelId]:
    """Return the models that no custodian can open: all their living KEKs are in no escrow."""
    for model in sorted(keys.by_model):
        active = keys.active(model)
        if active is not None and not active.escrowed:
            yield model


def closed(keys: KeyLedger, vault: Vault) -> tuple[ModelId, ...]:
    """Return the irrecoverable models that this keeper can't open, as it is unlocked now."""
    return () if vault.opens(Tree.UNESCROWED) else tuple(irrecoverable(keys))


def lost(keys: KeyLedger) -> tuple[ModelId, ...]:
    """Return the models whose keys were lost: nobody destroyed them, and nothing opens with them any more."""
    return tuple(sorted(model for model in keys.by_model if keys.active(model) is None and model not in keys.destroyed))
