"""Pickles, protocols 0 to 5: every opcode is read, and stack and memo are simulated with stand-ins. Nothing is loaded.

Opcodes and their protocols are those of the standard library's ``pickletools``; the arguments are read here, within
bounds. A global that isn't allowed, a call of anything else, an opcode that isn't known, bytes after STOP or no STOP:
refused. So the verdict holds for each way in which a loader could go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeGuard

from strongroom.intake.formats.pickle_arguments import OPCODES, Argument
from strongroom.intake.formats.pickle_globals import PLAIN_GLOBALS, Allowed, Globals
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Cursor, Source

MAX_OPCODES: Final = 5_000_000
MAX_MEMO: Final = 1_000_000
MAX_STACK: Final = 1_000_000
MAX_MARKS: Final = 1_000
MAX_TENSORS: Final = 1_000_000
_MAX_NESTED: Final = 8
HIGHEST_PROTOCOL: Final = 5
_KEPT_ITEMS: Final = 16
_KEPT_DEPTH: Final = 4
_PROTO: Final = 0x80
_STOP: Final = ord(".")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PickleFacts:
    """What was found in an allowed pickle."""

    protocol: int
    opcodes: int
    globals: tuple[str, ...]
    """``module name``, sorted, each once."""
    storages: tuple[Storage, ...]
    """Each once, in the order of their keys."""


@dataclass(frozen=True, slots=True)
class _Atom:
    """A value without parts: a number, bytes, a long text."""


@dataclass(frozen=True, slots=True)
class _Tuple:
    items: tuple[_Value, ...] | None
    depth: int


@dataclass(frozen=True, slots=True)
class _Global:
    name: tuple[str, str]
    allowed: Allowed


@dataclass(slots=True, eq=False)
class _Made:
    """What a call returned, or a container that the pickle makes."""

    items: bool
    state: bool
    named: dict[str, _Value] = field(default_factory=dict)
    """Of a dictionary: views and dictionaries under names."""


# A short text and a number stand for themselves.
_Value = _Atom | str | int | _Tuple | _Global | _Made | Storage | View
_ATOM: Final = _Atom()
_UNKNOWN_TUPLE: Final = _Tuple(None, 1)


@dataclass(slots=True)
class _Machine:
    """The simulated unpickler."""

    cursor: Cursor
    globals: Globals
    storages_allowed: bool
    stack: list[_Value] = field(default_factory=list)
    below: list[list[_Value]] = field(default_factory=list)
    memo: dict[int, _Value] = field(default_factory=dict)
    named: set[tuple[str, str]] = field(default_factory=set)
    storages: dict[str, Storage] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)

    def refuse(self, rule: Rule, message: str) -> IntakeRefusedError:
        return IntakeRefusedError(rule, self.cursor.refuse(message).message)

    def pop(self) -> _Value:
        if not self.stack:
            raise self.refuse(Rule.PICKLE_FORM, "an opcode takes a value that isn't there")
        return self.stack.pop()

    def push(self, value: _Value) -> None:
        if len(self.stack) >= MAX_STACK:
            raise self.refuse(Rule.PICKLE_FORM, f"more than {MAX_STACK} values on the stack")
        self.stack.append(value)

    def mark(self) -> None:
        if len(self.below) >= MAX_MARKS:
            raise self.refuse(Rule.PICKLE_FORM, f"more than {MAX_MARKS} open marks")
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[_Value]:
        if not self.below:
            raise self.refuse(Rule.PICKLE_FORM, "an opcode takes a mark that isn't there")
        taken, self.stack = self.stack, self.below.pop()
        return taken

    def remember(self, index: int) -> None:
        # No writer uses a place twice: a memo that changes is a riddle for whoever reads the pickle.
        if index in self.memo or len(self.memo) >= MAX_MEMO:
            raise self.refuse(Rule.PICKLE_FORM, "a place of the memo is used twice, or there are too many")
        if not self.stack:
            raise self.refuse(Rule.PICKLE_FORM, "an opcode takes a value that isn't there")
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise self.refuse(Rule.PICKLE_FORM, "a place of the memo that is empty")
        self.push(self.memo[index])

    def name(self, module: str, name: str) -> _Global:
        allowed = self.globals.get((module, name))
        if allowed is None:
            raise self.refuse(Rule.PICKLE_GLOBAL, f"the global {shown(f'{module} {name}')} isn't allowed")
        self.named.add((module, name))
        return _Global((module, name), allowed)

    def call(self, function: _Value, arguments: _Value) -> None:
        if not isinstance(function, _Global) or not function.allowed.calls:
            what = shown(" ".join(function.name)) if isinstance(function, _Global) else "something that isn't a global"
            raise self.refuse(Rule.PICKLE_CALL, f"a call of {what}")
        if not isinstance(arguments, _Tuple):
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
            self.push(_Made(allowed.items, allowed.state))

    def view(self, items: tuple[_Value, ...] | None) -> View:
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

    def persistent(self, pid: _Value) -> None:
        """Take a storage: (`storage`, class, key, device, elements)."""
        found = pid.items if isinstance(pid, _Tuple) else None
        if not self.storages_allowed or found is None or len(found) != 5 or found[0] != "storage":
            raise self.refuse(Rule.PICKLE_CALL, "a persistent id that isn't a checkpoint's storage")
        kind, key, device, elements = found[1:]
        if not isinstance(kind, _Global) or not kind.allowed.item_bytes:
            raise self.refuse(Rule.TORCH_STORAGE, "a storage of a class that isn't one")
        if not isinstance(key, str) or not _KEY.fullmatch(key) or not isinstance(device, str):
            raise self.refuse(Rule.TORCH_STORAGE, "a storage with a key that isn't a number")
        if not _is_count(elements):
            raise self.refuse(Rule.TORCH_STORAGE, "a storage whose size isn't a count")
        storage = Storage(key, kind.name[1], kind.allowed.item_bytes, elements)
        if self.storages.setdefault(key, storage) != storage:
            raise self.refuse(Rule.TORCH_STORAGE, "one storage with two types or sizes")
        self.push(storage)

    def fill(self) -> _Made:
        """Check that the value on top takes items, filling calls its methods; returns it."""
        top = self.stack[-1] if self.stack else None
        if not isinstance(top, _Made) or not top.items:
            raise self.refuse(Rule.PICKLE_CALL, "items for something that isn't a container")
        return top

    def pairs(self, into: _Made, items: list[_Value]) -> None:
        """Keep what a dictionary holds under names, as far as it may lead to tensors. A later value replaces."""
        if len(items) % 2:
            raise self.refuse(Rule.PICKLE_FORM, "a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str):
                into.named.pop(key, None)
                if isinstance(value, (View, _Made)):
                    into.named[key] = value

    def build(self) -> None:
        self.pop()
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, _Made) or not target.state:
            raise self.refuse(Rule.PICKLE_CALL, "a state for something that takes none")
        # Once: a first state could plant the method that a second one calls.
        target.state = False

    def tuple_of(self, items: list[_Value]) -> None:
        depth = 1 + max((item.depth for item in items if isinstance(item, _Tuple)), default=0)
        kept = len(items) <= _KEPT_ITEMS and depth <= _KEPT_DEPTH
        self.push(_Tuple(tuple(items), depth) if kept else _UNKNOWN_TUPLE)


_PARAMETER: Final = ("torch._utils", "_rebuild_parameter")
_KEY: Final = re.compile(r"[0-9]{1,9}")


def _is_count(value: _Value) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _counts(value: _Value) -> tuple[int, ...] | None:
    if not isinstance(value, _Tuple) or value.items is None:
        return None
    found = tuple(item for item in value.items if _is_count(item))
    return found if len(found) == len(value.items) else None


def _constant(machine: _Machine, argument: Argument) -> None:
    machine.push(argument if isinstance(argument, (str, int)) else _ATOM)


def _atom(machine: _Machine, _argument: Argument) -> None:
    machine.push(_ATOM)


def _container(machine: _Machine, _argument: Argument) -> None:
    machine.push(_Made(items=True, state=False))


def _marked_container(machine: _Machine, _argument: Argument) -> None:
    machine.pop_mark()
    machine.push(_Made(items=True, state=False))


def _marked_pairs(machine: _Machine, _argument: Argument) -> None:
    made = _Made(items=True, state=False)
    machine.pairs(made, machine.pop_mark())
    machine.push(made)


def _marked_atom(machine: _Machine, _argument: Argument) -> None:
    machine.pop_mark()
    machine.push(_ATOM)


def _tuple(machine: _Machine, _argument: Argument) -> None:
    machine.tuple_of(machine.pop_mark())


def _tuple_of(count: int) -> Callable[[_Machine, Argument], None]:
    def step(machine: _Machine, _argument: Argument) -> None:
        machine.tuple_of([machine.pop() for _ in range(count)][::-1])

    return step


def _item(machine: _Machine, _argument: Argument) -> None:
    machine.pop()
    machine.fill()


def _pair(machine: _Machine, _argument: Argument) -> None:
    value, key = machine.pop(), machine.pop()
    machine.pairs(machine.fill(), [key, value])


def _items(machine: _Machine, _argument: Argument) -> None:
    machine.pop_mark()
    machine.fill()


def _pairs(machine: _Machine, _argument: Argument) -> None:
    items = machine.pop_mark()
    machine.pairs(machine.fill(), items)


def _mark(machine: _Machine, _argument: Argument) -> None:
    machine.mark()


def _pop_mark(machine: _Machine, _argument: Argument) -> None:
    machine.pop_mark()


def _pop(machine: _Machine, _argument: Argument) -> None:
    machine.pop()


def _duplicate(machine: _Machine, _argument: Argument) -> None:
    value = machine.pop()
    machine.push(value)
    machine.push(value)


def _put(machine: _Machine, argument: Argument) -> None:
    machine.remember(_index(machine, argument))


def _get(machine: _Machine, argument: Argument) -> None:
    machine.recall(_index(machine, argument))


def _index(machine: _Machine, argument: Argument) -> int:
    if not isinstance(argument, int) or argument < 0:
        raise machine.refuse(Rule.PICKLE_FORM, "a place of the memo that isn't a count")
    return argument


def _memoize(machine: _Machine, _argument: Argument) -> None:
    machine.remember(len(machine.memo))


def _global(machine: _Machine, argument: Argument) -> None:
    if not isinstance(argument, tuple):
        raise machine.refuse(Rule.PICKLE_FORM, "a global without a name")
    machine.push(machine.name(*argument))


def _stack_global(machine: _Machine, _argument: Argument) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise machine.refuse(Rule.PICKLE_GLOBAL, "a global whose name isn't a short text")
    machine.push(machine.name(module, name))


def _reduce(machine: _Machine, _argument: Argument) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.call(function, arguments)


def _new_with_names(machine: _Machine, _argument: Argument) -> None:
    raise machine.refuse(Rule.PICKLE_CALL, "a call with named arguments")


def _instance(machine: _Machine, argument: Argument) -> None:
    if not isinstance(argument, tuple):
        raise machine.refuse(Rule.PICKLE_FORM, "a global without a name")
    items = machine.pop_mark()
    machine.call(machine.name(*argument), _Tuple(tuple(items), 1))


def _object(machine: _Machine, _argument: Argument) -> None:
    items = machine.pop_mark()
    if not items:
        raise machine.refuse(Rule.PICKLE_FORM, "an object without a class")
    machine.call(items[0], _Tuple(tuple(items[1:]), 1))


def _build(machine: _Machine, _argument: Argument) -> None:
    machine.build()


def _persistent(machine: _Machine, _argument: Argument) -> None:
    machine.persistent(machine.pop())


def _refused(machine: _Machine, _argument: Argument) -> None:
    raise machine.refuse(Rule.PICKLE_FORM, "an opcode for what is outside the pickle")


_STEPS: Final[Mapping[str, Callable[[_Machine, Argument], None]]] = MappingProxyType(
    {
        **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _constant),
        **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _constant),
        **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING", "FLOAT", "BINFLOAT"), _atom),
        **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _atom),
        **dict.fromkeys(("NONE", "NEWTRUE", "NEWFALSE"), _atom),
        **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), _container),
        "LIST": _marked_container,
        "DICT": _marked_pairs,
        "FROZENSET": _marked_atom,
        "EMPTY_TUPLE": _tuple_of(0),
        "TUPLE1": _tuple_of(1),
        "TUPLE2": _tuple_of(2),
        "TUPLE3": _tuple_of(3),
        "TUPLE": _tuple,
        "APPEND": _item,
        "SETITEM": _pair,
        "APPENDS": _items,
        "ADDITEMS": _items,
        "SETITEMS": _pairs,
        "MARK": _mark,
        "POP_MARK": _pop_mark,
        "POP": _pop,
        "DUP": _duplicate,
        **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
        **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
        "MEMOIZE": _memoize,
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "REDUCE": _reduce,
        "NEWOBJ": _reduce,
        "NEWOBJ_EX": _new_with_names,
        "INST": _instance,
        "OBJ": _object,
        "BUILD": _build,
        "BINPERSID": _persistent,
        **dict.fromkeys(("PERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"), _refused),
    }
)


def check_pickle(source: Source, where: str, *, allowed: Globals = PLAIN_GLOBALS) -> PickleFacts:
    """Judge a pickle that is a whole file. ``where`` names it in messages.

    :raises IntakeRefusedError: pickle-form, pickle-global, pickle-call or pickle-trailing.
    """
    return _run(_Machine(Cursor(source, where, Rule.PICKLE_FORM), allowed, storages_allowed=False))


def check_checkpoint_pickle(source: Source, where: str, *, allowed: Globals) -> PickleFacts:
    """Judge the pickle of a torch checkpoint, in which persistent ids name storages.

    :raises IntakeRefusedError: as :func:`check_pickle`, or torch-storage.
    """
    return _run(_Machine(Cursor(source, where, Rule.PICKLE_FORM), allowed, storages_allowed=True))


def checkpoint_tensors(source: Source, where: str, *, allowed: Globals) -> dict[str, View]:
    """Return the tensors of a torch checkpoint's pickle by name; names in nested dictionaries are joined by dots.

    :raises IntakeRefusedError: as :func:`check_checkpoint_pickle`; or torch-storage: no dictionary, a tensor that lies
        somewhere else than in dictionaries with names, or two under one name.
    """
    machine = _Machine(Cursor(source, where, Rule.PICKLE_FORM), allowed, storages_allowed=True)
    _run(machine)
    found: dict[str, View] = {}
    reached: set[int] = set()
    seen: set[int] = set()
    waiting: list[tuple[str, _Value, int]] = [("", machine.stack[-1], 0)]
    while waiting:
        prefix, value, depth = waiting.pop()
        if not isinstance(value, _Made) or not value.items or depth > _MAX_NESTED:
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


def _run(machine: _Machine) -> PickleFacts:
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
        _STEPS[opcode.name](machine, argument)
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


def _finished(machine: _Machine, protocol: int, opcodes: int, frame_end: int) -> PickleFacts:
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
