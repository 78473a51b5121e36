"""What a deployment's folder says about its root key: which key services hold it, and whether each opens its part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from strongroom.core.errors import StrongroomError
from strongroom.core.genesis import Genesis
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keys.hierarchy import Tree
from strongroom.keys.provider import Capability
from strongroom.keys.split_root import read_root, root_purposes
from strongroom.keys.uri import KeyUri, Service
from strongroom.keys.wiring import key_provider


@dataclass(frozen=True, slots=True, kw_only=True)
class PartState:
    """One part of the root key as its key service has it now."""

    provider: KeyUri
    key: str
    version: str
    capabilities: frozenset[Capability] = frozenset()
    """Empty for a passphrase, which nobody typed."""
    error: StrongroomError | None = None
    """Why it doesn't open, or None."""


def needs_passphrase(home: Path) -> bool:
    """Tell whether the root key, or a part of it, is under a passphrase.

    :raises StrongroomError: there is no keyring that this user can read.
    """
    return any(
        part.provider.service is Service.LOCAL for part in read_root(load_keyring(home / "keeper").root(Tree.ESCROWED))
    )


def part_states(home: Path) -> tuple[PartState, ...]:
    """Ask each key service to open its part, except a passphrase; what is opened is wiped at once.

    :raises StrongroomError: there is no deployment whose keyring this user can read.
    """
    held = read_root(load_keyring(home / "keeper").root(Tree.ESCROWED))
    genesis = Genesis.parse((home / "genesis.json").read_bytes()).digest
    states = []
    for part, purpose in zip(held, root_purposes(genesis, len(held)), strict=True):
        state = PartState(provider=part.provider, key=part.closed.key, version=part.closed.version)
        if part.provider.service is not Service.LOCAL:
            try:
                provider = key_provider(part.provider)
                provider.unwrap(part, purpose).wipe()
            except StrongroomError as error:
                state = PartState(provider=state.provider, key=state.key, version=state.version, error=error)
            else:
                state = PartState(
                    provider=state.provider,
                    key=state.key,
                    version=state.version,
                    capabilities=provider.capabilities,
                )
        states.append(state)
    return tuple(states)
