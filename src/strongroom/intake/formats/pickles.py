"""Pickles, protocols 0 to 5: every opcode is read, and stack and memo are simulated with stand-ins. Nothing is loaded.

Opcodes and their protocols are those of the standard library's ``pickletools``; the arguments are read here, within
bounds. A global that isn't allowed, a call of anything else, an opcode that isn't known, bytes after STOP or no STOP:
refused. So the verdict holds for each way in which a loader could go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.intake.formats.pickle_arguments import OPCODES, Argument
from strongroom.intake.formats.pickle_globals import PLAIN_GLOBALS, Globals
from strongroom.intake.formats.pickle_machine import Machine, Made, Storage, Value, View
from strongroom.intake.formats.pickle_steps import STEPS
from strongroom.intake.rules import Rule
from strongroom.intake.source import Cursor, Source

MAX_OPCODES: Final = 5_000_000
MAX_TENSORS: Final = 1_000_000
_MAX_NESTED: Final = 8
HIGHEST_PROTOCOL: Final = 5
_PROTO: Final = 0x80
_STOP: Final = ord(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class PickleFacts:
    """What was found in an allowed pickle."""

    protocol: int
    opcodes: int
    globals: tuple[str, ...]
    """``module name``, sorted, each once."""
    storages: tuple[Storage, ...]
    """Each once, in the order of their keys."""


def check_pickle(source: Source, where: str, *, allowed: Globals = PLAIN_GLOBALS) -> PickleFacts:
    """Judge a pickle that is a whole file. ``where`` names it in messages.

    :raises IntakeRefusedError: pickle-form, pickle-global, pickle-call or pickle-trailing.
    """
    return _run(Machine(Cursor(source, where, Rule.PICKLE_FORM), allowed, storages_allowed=False))


def check_checkpoint_pickle(source: Source, where: str, *, allowed: Globals) -> PickleFacts:
    """Judge the pickle of a torch checkpoint, in which persistent ids name storages.

    :raises IntakeRefusedError: as :func:`check_pickle`, or torch-storage.
    """
    return _run(Machine(Cursor(source, where, Rule.PICKLE_FORM), allowed, storages_allowed=True))


def checkpoint_tensors(source: Source, where: str, *, allowed: Globals) -> dict[str, View]:
    """Return the tensors of a torch checkpoint's pickle by name; names in nested dictionaries are joined by dots.

    :raises IntakeRefusedError: as :func:`check_checkpoint_pickle`; or torch-storage: no dictionary, a tensor that lies
        somewhere else than in dictionaries with names, or two under one name.
    """
    machine = Machine(Cursor(source, where, Rule.PICKLE_FORM), allowed, storages_allowed=True)
    _run(machine)
    found: dict[str, View] = {}
    reached: set[int] = set()
    seen: set[int] = set()
    waiting: list[tuple[str, Value, int]] = [("", machine.stack[-1], 0)]
    while waiting:
        prefix, value, depth = waiting.pop()
        if not isinstance(value, Made) or not value.items or depth > _MAX_NESTED:
            raise machine.refuse(Rule.TORCH_STORAGE, "a value that can't be kept, or dictionaries nested too deep")
        if value.named and id(value) in seen:
            # A dictionary within itself, or a few that each hold the next ones twice, have names without end.
            raise machine.refuse(Rule.TORCH_STORAGE, "one dictionary in two places")
        seen.add(id(value))
        for key, one in value.named.items():
            if isinstance(one, View):
                if prefix + key in found or len(found) >= MAX_TENSORS:
                    raise machine.refuse(Rule.TORCH_STORAGE, "two tensors under one name, or too many")
                found[prefix + key] = one
                reached.add(id(one))
            else:
                waiting.append((f"{prefix}{key}.", one, depth + 1))
    if reached != {id(one) for one in machine.views}:
        # What isn't found would be missing from whatever is made of it, and nobody would know.
        raise machine.refuse(Rule.TORCH_STORAGE, "a tensor that lies in no dictionary under a name")
    return found


def _run(machine: Machine) -> PickleFacts:
    cursor = machine.cursor
    protocol, frame_end = _protocol(cursor), 0
    for count in range(MAX_OPCODES):
        code = cursor.integer(1)
        opcode = OPCODES.get(code)
        if opcode is None or code == _PROTO or opcode.protocol > protocol:
            raise cursor.refuse(f"an opcode that protocol {protocol} doesn't have there")
        argument = opcode.read(cursor)
        if opcode.name == "FRAME":
            frame_end = _frame(cursor, argument, frame_end)
            continue
        if cursor.at > frame_end > 0:
            # Loaders differ in what they do with an opcode that reaches out of its frame.
            raise cursor.refuse("an opcode that reaches out of its frame")
        if cursor.at == frame_end:
            frame_end = 0
        if code == _STOP:
            return _finished(machine, protocol, count + 1, frame_end)
        STEPS[opcode.name](machine, argument)
    raise cursor.refuse(f"more than {MAX_OPCODES} opcodes")


def _protocol(cursor: Cursor) -> int:
    """Read PROTO, which the first two protocols don't have; it stands at the beginning or nowhere."""
    if cursor.take(1)[0] != _PROTO:
        cursor.at = 0
        return 1
    version = cursor.integer(1)
    if not 2 <= version <= HIGHEST_PROTOCOL:
        raise cursor.refuse(f"protocol {version} isn't one")
    return version


def _frame(cursor: Cursor, length: Argument, frame_end: int) -> int:
    if not isinstance(length, int) or frame_end or not 0 < length <= cursor.left:
        raise cursor.refuse("a frame within a frame, an empty one, or one that ends after the pickle")
    return cursor.at + length


def _finished(machine: Machine, protocol: int, opcodes: int, frame_end: int) -> PickleFacts:
    if len(machine.stack) != 1 or machine.below or frame_end:
        raise machine.refuse(Rule.PICKLE_FORM, "STOP where values, marks or a frame are left")
    if machine.cursor.left:
        raise machine.refuse(Rule.PICKLE_TRAILING, f"{machine.cursor.left} bytes after STOP")
    return PickleFacts(
        protocol=protocol,
        opcodes=opcodes,
        globals=tuple(" ".join(name) for name in sorted(machine.named)),
        storages=tuple(sorted(machine.storages.values(), key=lambda one: (len(one.key), one.key))),
    )
