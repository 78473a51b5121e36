"""A simulated unpickler: its stack, marks and memo, with stand-ins for the values. It calls and loads nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, TypeGuard

from strongroom.intake.formats.pickle_globals import Allowed, Globals
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Cursor

MAX_MEMO: Final = 1_000_000
MAX_STACK: Final = 1_000_000
MAX_MARKS: Final = 1_000
_KEPT_ITEMS: Final = 16
_KEPT_DEPTH: Final = 4
_PARAMETER: Final = ("torch._utils", "_rebuild_parameter")
_KEY: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage that a checkpoint's pickle names: where its bytes are, and how many elements of which size."""

    key: str
    kind: str
    """Name of its class, which says the type of its elements."""
    item_bytes: int
    elements: int


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A tensor: elements of a storage, from ``offset`` on; all in elements. Checked to stay within the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Atom:
    """A value without parts: a number, bytes, a long text."""


@dataclass(frozen=True, slots=True)
class PickledTuple:
    """A tuple; its items aren't kept where there are many, or deep ones."""

    items: tuple[Value, ...] | None
    depth: int


@dataclass(frozen=True, slots=True)
class Global:
    """A global that is allowed, and for what."""

    name: tuple[str, str]
    allowed: Allowed


@dataclass(slots=True, eq=False)
class Made:
    """What a call returned, or a container that the pickle makes."""

    items: bool
    state: bool
    named: dict[str, Value] = field(default_factory=dict)
    """Of a dictionary: views and dictionaries under names."""


# A short text and a number stand for themselves.
Value = Atom | str | int | PickledTuple | Global | Made | Storage | View
ATOM: Final = Atom()
_UNKNOWN_TUPLE: Final = PickledTuple(None, 1)


@dataclass(slots=True)
class Machine:
    """The simulated unpickler."""

    cursor: Cursor
    globals: Globals
    storages_allowed: bool
    stack: list[Value] = field(default_factory=list)
    below: list[list[Value]] = field(default_factory=list)
    memo: dict[int, Value] = field(default_factory=dict)
    named: set[tuple[str, str]] = field(default_factory=set)
    storages: dict[str, Storage] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)

    def refuse(self, rule: Rule, message: str) -> IntakeRefusedError:
        """Return the error that says where the pickle breaks a rule."""
        return IntakeRefusedError(rule, self.cursor.refuse(message).message)

    def pop(self) -> Value:
        """Take the value on top."""
        if not self.stack:
            raise self.refuse(Rule.PICKLE_FORM, "an opcode takes a value that isn't there")
        return self.stack.pop()

    def push(self, value: Value) -> None:
        """Put a value on top."""
        if len(self.stack) >= MAX_STACK:
            raise self.refuse(Rule.PICKLE_FORM, f"more than {MAX_STACK} values on the stack")
        self.stack.append(value)

    def mark(self) -> None:
        """Begin a new stack on top of the one that there is."""
        if len(self.below) >= MAX_MARKS:
            raise self.refuse(Rule.PICKLE_FORM, f"more than {MAX_MARKS} open marks")
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Value]:
        """Take everything above the last mark."""
        if not self.below:
            raise self.refuse(Rule.PICKLE_FORM, "an opcode takes a mark that isn't there")
        taken, self.stack = self.stack, self.below.pop()
        return taken

    def remember(self, index: int) -> None:
        """Keep the value on top in a place of the memo."""
        # No writer uses a place twice: a memo that changes is a riddle for whoever reads the pickle.
        if index in self.memo or len(self.memo) >= MAX_MEMO:
            raise self.refuse(Rule.PICKLE_FORM, "a place of the memo is used twice, or there are too many")
        if not self.stack:
            raise self.refuse(Rule.PICKLE_FORM, "an opcode takes a value that isn't there")
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        """Put what a place of the memo holds on top."""
        if index not in self.memo:
            raise self.refuse(Rule.PICKLE_FORM, "a place of the memo that is empty")
        self.push(self.memo[index])

    def name(self, module: str, name: str) -> Global:
        """Return a global that the list allows."""
        allowed = self.globals.get((module, name))
        if allowed is None:
            raise self.refuse(Rule.PICKLE_GLOBAL, f"the global {shown(f'{module} {name}')} isn't allowed")
        self.named.add((module, name))
        return Global((module, name), allowed)

    def call(self, function: Value, arguments: Value) -> None:
        """Put what an allowed call returns on top."""
        if not isinstance(function, Global) or not function.allowed.calls:
            what = shown(" ".join(function.name)) if isinstance(function, Global) else "something that isn't a global"
            raise self.refuse(Rule.PICKLE_CALL, f"a call of {what}")
        if not isinstance(arguments, PickledTuple):
            raise self.refuse(Rule.PICKLE_CALL, "a call with something else than a tuple")
        items, allowed = arguments.items, function.allowed
        if allowed.encodes and not (items is not None and len(items) == 2 and items[1] == "latin1"):
            raise self.refuse(Rule.PICKLE_CALL, "bytes in another encoding than latin1")
        if allowed.unsized and (items is None or any(isinstance(one, int) for one in items[:1])):
            raise self.refuse(Rule.PICKLE_CALL, "bytes of a length that nothing fills")
        if allowed.rebuilds:
            self.push(self.view(items))
        elif function.name == _PARAMETER and items and isinstance(items[0], View):
            self.push(items[0])
        else:
            self.push(Made(allowed.items, allowed.state))

    def view(self, items: tuple[Value, ...] | None) -> View:
        """Check that a tensor is a view of a storage and stays within it."""
        if items is None or len(items) not in {6, 7} or not isinstance(items[0], Storage):
            raise self.refuse(Rule.TORCH_STORAGE, "a tensor that isn't a view of a storage")
        shape, stride = _counts(items[2]), _counts(items[3])
        if not _is_count(items[1]) or shape is None or stride is None or len(shape) != len(stride):
            raise self.refuse(Rule.TORCH_STORAGE, "a tensor whose offset, shape or strides aren't counts")
        last = items[1] + sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True))
        if 0 not in shape and last >= items[0].elements:
            raise self.refuse(Rule.TORCH_STORAGE, "a tensor that reaches beyond its storage")
        found = View(items[0], items[1], shape, stride)
        self.views.append(found)
        return found

    def persistent(self, pid: Value) -> None:
        """Take a storage: (`storage`, class, key, device, elements)."""
        found = pid.items if isinstance(pid, PickledTuple) else None
        if not self.storages_allowed or found is None or len(found) != 5 or found[0] != "storage":
            raise self.refuse(Rule.PICKLE_CALL, "a persistent id that isn't a checkpoint's storage")
        kind, key, device, elements = found[1:]
        if not isinstance(kind, Global) or not kind.allowed.item_bytes:
            raise self.refuse(Rule.TORCH_STORAGE, "a storage of a class that isn't one")
        if not isinstance(key, str) or not _KEY.fullmatch(key) or not isinstance(device, str):
            raise self.refuse(Rule.TORCH_STORAGE, "a storage with a key that isn't a number")
        if not _is_count(elements):
            raise self.refuse(Rule.TORCH_STORAGE, "a storage whose size isn't a count")
        storage = Storage(key, kind.name[1], kind.allowed.item_bytes, elements)
        if self.storages.setdefault(key, storage) != storage:
            raise self.refuse(Rule.TORCH_STORAGE, "one storage with two types or sizes")
        self.push(storage)

    def fill(self) -> Made:
        """Check that the value on top takes items, filling calls its methods; returns it."""
        top = self.stack[-1] if self.stack else None
        if not isinstance(top, Made) or not top.items:
            raise self.refuse(Rule.PICKLE_CALL, "items for something that isn't a container")
        return top

    def pairs(self, into: Made, items: list[Value]) -> None:
        """Keep what a dictionary holds under names, as far as it may lead to tensors. A later value replaces."""
        if len(items) % 2:
            raise self.refuse(Rule.PICKLE_FORM, "a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str):
                into.named.pop(key, None)
                if isinstance(value, (View, Made)):
                    into.named[key] = value

    def build(self) -> None:
        """Give the value below the top one its state."""
        self.pop()
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, Made) or not target.state:
            raise self.refuse(Rule.PICKLE_CALL, "a state for something that takes none")
        # Once: a first state could plant the method that a second one calls.
        target.state = False

    def tuple_of(self, items: list[Value]) -> None:
        """Put a tuple on top."""
        depth = 1 + max((item.depth for item in items if isinstance(item, PickledTuple)), default=0)
        kept = len(items) <= _KEPT_ITEMS and depth <= _KEPT_DEPTH
        self.push(PickledTuple(tuple(items), depth) if kept else _UNKNOWN_TUPLE)


def _is_count(value: Value) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _counts(value: Value) -> tuple[int, ...] | None:
    if not isinstance(value, PickledTuple) or value.items is None:
        return None
    found = tuple(item for item in value.items if _is_count(item))
    return found if len(found) == len(value.items) else None
