"""What machine and launcher say to each other beside what the agent says. Everything goes over one serial port. Pure.

machine -> launcher   {booted: {pcrs, event_log, milliseconds}}   once, before anything else; informs only
launcher -> machine   {agent: {order: {...}}}            first, once; what it says of measurements isn't believed
machine -> launcher   {agent: message}                   a message of the agent's, as it is
launcher -> machine   {agent: message}                   a message for the agent, as it is
machine -> launcher   {output: {stream, data}}           what the command writes, unless the image's output is metered
machine -> launcher   {stopped: {}}                      the last one; the machine turns itself off

Where the image says that its output is metered (docs/spec/metered-channel.md):

launcher -> machine   {meter: {vocabulary}}              once, before any order
launcher -> machine   {vouched: entry}                   a signed entry of the log: so many bits may leave
launcher -> machine   {orders: data}                     bytes for the engine, as they come
machine -> launcher   {frames: data}                     whole frames of the engine's, each of them metered
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.enclave.metered import FRAME

MAX_LOG: Final = 512 * 1024
MAX_OUTPUT: Final = 32 * 1024
MAX_METERED: Final = FRAME * 8192
"""Bytes of the metered channel in one message, either way."""
MAX_ENTRY: Final = 65_535
_PCRS: Final = 24


class Stream(StrEnum):
    """Where the command wrote."""

    OUT = "out"
    ERR = "err"


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """What the machine says of its own start. It helps to find out why a prediction failed, and proves nothing."""

    pcrs: Mapping[int, str]
    event_log: bytes
    milliseconds: int
    """From the kernel's first instruction to the first message."""


@dataclass(frozen=True, slots=True)
class FromAgent:
    """A message of the agent's."""

    message: Json


@dataclass(frozen=True, slots=True)
class Output:
    """What the command wrote."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class FramesOut:
    """Whole frames of the metered channel."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing more will come."""


@dataclass(frozen=True, slots=True)
class ForAgent:
    """A message for the agent."""

    message: Json


@dataclass(frozen=True, slots=True)
class MeterOpened:
    """How many tokens the vocabulary has that the engine's answers are made of."""

    vocabulary: int


@dataclass(frozen=True, slots=True)
class Vouched:
    """An entry of the log, as the keeper signed it."""

    entry: bytes


@dataclass(frozen=True, slots=True)
class OrdersIn:
    """Bytes for the engine: orders, cut anywhere."""

    data: bytes


FromMachine = Booted | FromAgent | Output | FramesOut | Stopped
ForMachine = ForAgent | MeterOpened | Vouched | OrdersIn


def tell(said: FromMachine) -> Json:
    """Return a message of the machine's."""
    match said:
        case Booted(pcrs=pcrs, event_log=log, milliseconds=milliseconds):
            values: Json = {str(number): value for number, value in pcrs.items()}
            return {"booted": {"pcrs": values, "event_log": to_base64(log), "milliseconds": milliseconds}}
        case FromAgent(message=message):
            return {"agent": message}
        case Output(stream=stream, data=data):
            return {"output": {"stream": stream.value, "data": to_base64(data)}}
        case FramesOut(data=data):
            return {"frames": to_base64(data)}
        case Stopped():
            return {"stopped": {}}


def say(said: ForMachine) -> Json:
    """Return a message of the launcher's."""
    match said:
        case ForAgent(message=message):
            return {"agent": message}
        case MeterOpened(vocabulary=vocabulary):
            return {"meter": {"vocabulary": vocabulary}}
        case Vouched(entry=entry):
            return {"vouched": to_base64(entry)}
        case OrdersIn(data=data):
            return {"orders": to_base64(data)}


def hear(message: Json) -> FromMachine:
    """Read a message of the machine's, which may have been taken over.

    :raises MalformedError: none of the five.
    """
    with Fields(message, "message") as fields:
        match fields.names(most=1):
            case ("agent",):
                return FromAgent(fields.value("agent"))
            case ("output",):
                with fields.child("output") as output:
                    return Output(output.parsed("stream", Stream), output.binary("data", max_length=MAX_OUTPUT))
            case ("frames",):
                return FramesOut(_whole_frames(fields.binary("frames", max_length=MAX_METERED)))
            case ("booted",):
                with fields.child("booted") as booted, booted.child("pcrs") as pcrs:
                    return Booted(
                        pcrs={_number(name): pcrs.text(name, max_length=64) for name in pcrs.names(most=_PCRS)},
                        event_log=booted.binary("event_log", max_length=MAX_LOG),
                        milliseconds=booted.integer("milliseconds"),
                    )
            case ("stopped",):
                fields.child("stopped").end()
                return Stopped()
            case _:
                raise MalformedError("the machine said something that isn't known")


def listen(message: Json) -> ForMachine:
    """Read a message of the launcher's, inside the machine, which doesn't trust it.

    :raises MalformedError: none of the four.
    """
    with Fields(message, "message") as fields:
        match fields.names(most=1):
            case ("agent",):
                return ForAgent(fields.value("agent"))
            case ("meter",):
                with fields.child("meter") as meter:
                    return MeterOpened(meter.integer("vocabulary"))
            case ("vouched",):
                return Vouched(fields.binary("vouched", max_length=MAX_ENTRY))
            case ("orders",):
                return OrdersIn(fields.binary("orders", max_length=MAX_METERED))
            case _:
                raise MalformedError("the launcher said something that isn't known")


def _whole_frames(data: bytes) -> bytes:
    # Where messages are cut could tell something as well; they are cut between frames.
    if not data or len(data) % FRAME:
        raise MalformedError("the machine sent something else than whole frames")
    return data


def _number(name: str) -> int:
    if not (name.isascii() and name.isdecimal() and int(name) < _PCRS and str(int(name)) == name):
        raise MalformedError("`booted.pcrs` has a member that isn't a register's number")
    return int(name)
