"""What each opcode does to the simulated unpickler, by its name in the standard library's ``pickletools``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from strongroom.intake.formats.pickle_arguments import Argument
from strongroom.intake.formats.pickle_machine import ATOM, Machine, Made, PickledTuple
from strongroom.intake.rules import Rule


def _constant(machine: Machine, argument: Argument) -> None:
    machine.push(argument if isinstance(argument, (str, int)) else ATOM)


def _atom(machine: Machine, _argument: Argument) -> None:
    machine.push(ATOM)


def _container(machine: Machine, _argument: Argument) -> None:
    machine.push(Made(items=True, state=False))


def _marked_container(machine: Machine, _argument: Argument) -> None:
    machine.pop_mark()
    machine.push(Made(items=True, state=False))


def _marked_pairs(machine: Machine, _argument: Argument) -> None:
    made = Made(items=True, state=False)
    machine.pairs(made, machine.pop_mark())
    machine.push(made)


def _marked_atom(machine: Machine, _argument: Argument) -> None:
    machine.pop_mark()
    machine.push(ATOM)


def _tuple(machine: Machine, _argument: Argument) -> None:
    machine.tuple_of(machine.pop_mark())


def _tuple_of(count: int) -> Callable[[Machine, Argument], None]:
    def step(machine: Machine, _argument: Argument) -> None:
        machine.tuple_of([machine.pop() for _ in range(count)][::-1])

    return step


def _item(machine: Machine, _argument: Argument) -> None:
    machine.pop()
    machine.fill()


def _pair(machine: Machine, _argument: Argument) -> None:
    value, key = machine.pop(), machine.pop()
    machine.pairs(machine.fill(), [key, value])


def _items(machine: Machine, _argument: Argument) -> None:
    machine.pop_mark()
    machine.fill()


def _pairs(machine: Machine, _argument: Argument) -> None:
    items = machine.pop_mark()
    machine.pairs(machine.fill(), items)


def _mark(machine: Machine, _argument: Argument) -> None:
    machine.mark()


def _pop_mark(machine: Machine, _argument: Argument) -> None:
    machine.pop_mark()


def _pop(machine: Machine, _argument: Argument) -> None:
    machine.pop()


def _duplicate(machine: Machine, _argument: Argument) -> None:
    value = machine.pop()
    machine.push(value)
    machine.push(value)


def _put(machine: Machine, argument: Argument) -> None:
    machine.remember(_index(machine, argument))


def _get(machine: Machine, argument: Argument) -> None:
    machine.recall(_index(machine, argument))


def _index(machine: Machine, argument: Argument) -> int:
    if not isinstance(argument, int) or argument < 0:
        raise machine.refuse(Rule.PICKLE_FORM, "a place of the memo that isn't a count")
    return argument


def _memoize(machine: Machine, _argument: Argument) -> None:
    machine.remember(len(machine.memo))


def _global(machine: Machine, argument: Argument) -> None:
    if not isinstance(argument, tuple):
        raise machine.refuse(Rule.PICKLE_FORM, "a global without a name")
    machine.push(machine.name(*argument))


def _stack_global(machine: Machine, _argument: Argument) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise machine.refuse(Rule.PICKLE_GLOBAL, "a global whose name isn't a short text")
    machine.push(machine.name(module, name))


def _reduce(machine: Machine, _argument: Argument) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.call(function, arguments)


def _new_with_names(machine: Machine, _argument: Argument) -> None:
    raise machine.refuse(Rule.PICKLE_CALL, "a call with named arguments")


def _instance(machine: Machine, argument: Argument) -> None:
    if not isinstance(argument, tuple):
        raise machine.refuse(Rule.PICKLE_FORM, "a global without a name")
    items = machine.pop_mark()
    machine.call(machine.name(*argument), PickledTuple(tuple(items), 1))


def _object(machine: Machine, _argument: Argument) -> None:
    items = machine.pop_mark()
    if not items:
        raise machine.refuse(Rule.PICKLE_FORM, "an object without a class")
    machine.call(items[0], PickledTuple(tuple(items[1:]), 1))


def _build(machine: Machine, _argument: Argument) -> None:
    machine.build()


def _persistent(machine: Machine, _argument: Argument) -> None:
    machine.persistent(machine.pop())


def _refused(machine: Machine, _argument: Argument) -> None:
    raise machine.refuse(Rule.PICKLE_FORM, "an opcode for what is outside the pickle")


STEPS: Final[Mapping[str, Callable[[Machine, Argument], None]]] = MappingProxyType(
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
