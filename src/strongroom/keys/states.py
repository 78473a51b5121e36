"""The states of a key, and what may be done with it in each: NIST SP 800-57 part 1 rev. 5, sections 7.1 to 7.3.

Protecting is wrapping or signing something new; processing is opening or verifying what was protected before. A
suspended key does neither here: whatever waits can wait until somebody looked. A destroyed key has no bytes left, and
a compromised one is only opened to move what it protected under another.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.core.errors import ConflictError, DeniedError


class KeyState(StrEnum):
    """Where a key stands in its life."""

    PRE_ACTIVE = "pre-active"
    """Made and durable, and not in the log yet: nothing was protected with it."""
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DEACTIVATED = "deactivated"
    """Opens what it protected, and protects nothing new."""
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"
    """No bytes are left where this program can reach."""


TRANSITIONS: Final[Mapping[KeyState, frozenset[KeyState]]] = MappingProxyType(
    {
        KeyState.PRE_ACTIVE: frozenset({KeyState.ACTIVE, KeyState.COMPROMISED, KeyState.DESTROYED}),
        KeyState.ACTIVE: frozenset(
            {KeyState.SUSPENDED, KeyState.DEACTIVATED, KeyState.COMPROMISED, KeyState.DESTROYED}
        ),
        KeyState.SUSPENDED: frozenset(
            {KeyState.ACTIVE, KeyState.DEACTIVATED, KeyState.COMPROMISED, KeyState.DESTROYED}
        ),
        KeyState.DEACTIVATED: frozenset({KeyState.COMPROMISED, KeyState.DESTROYED}),
        KeyState.COMPROMISED: frozenset({KeyState.DESTROYED}),
        KeyState.DESTROYED: frozenset(),
    }
)
"""State -> what may follow. Nothing comes back to life: a key that was deactivated never protects again."""
PROTECTS: Final = frozenset({KeyState.ACTIVE})
PROCESSES: Final = frozenset({KeyState.ACTIVE, KeyState.DEACTIVATED, KeyState.COMPROMISED})


class KeyStateError(ConflictError):
    """A key can't go from the state that it is in to the one that is asked for."""

    code = "key-state"


class KeyUnusableError(DeniedError):
    """The key's state doesn't allow what was asked of it."""

    code = "key-unusable"


def step(name: str, before: KeyState, after: KeyState) -> KeyState:
    """Return ``after``, if a key called ``name`` may go there from ``before``.

    :raises KeyStateError: it may not.
    """
    if after not in TRANSITIONS[before]:
        raise KeyStateError(f"key `{name}` is {before.value}: it can't become {after.value}")
    return after


def require_protects(name: str, state: KeyState) -> None:
    """Check that something new may be protected with a key.

    :raises KeyUnusableError: its state says no.
    """
    if state not in PROTECTS:
        raise KeyUnusableError(f"key `{name}` is {state.value}: nothing new is protected with it")


def require_processes(name: str, state: KeyState) -> None:
    """Check that what a key protected may be opened.

    :raises KeyUnusableError: its state says no.
    """
    if state not in PROCESSES:
        raise KeyUnusableError(f"key `{name}` is {state.value}: nothing is opened with it")
