"""What the machine says to its launcher beside what the agent says. Everything goes over the one serial port. Pure.

machine -> launcher   {booted: {pcrs, event_log, milliseconds}}   once, before anything else; informs only
launcher -> machine   {order: {...}}                     the agent's order; what it says of measurements isn't believed
machine -> launcher   {agent: message}                   a message of the agent's, as it is
launcher -> machine   a message for the agent, as it is
machine -> launcher   {output: {stream, data}}           what the command writes
machine -> launcher   {stopped: {}}                      the last one; the machine turns itself off
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

MAX_LOG: Final = 512 * 1024
MAX_OUTPUT: Final = 32 * 1024
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
class Stopped:
    """Nothing more will come."""


def tell(said: Booted | FromAgent | Output | Stopped) -> Json:
    """Return the message."""
    match said:
        case Booted(pcrs=pcrs, event_log=log, milliseconds=milliseconds):
            values: Json = {str(number): value for number, value in pcrs.items()}
            return {"booted": {"pcrs": values, "event_log": to_base64(log), "milliseconds": milliseconds}}
        case FromAgent(message=message):
            return {"agent": message}
        case Output(stream=stream, data=data):
            return {"output": {"stream": stream.value, "data": to_base64(data)}}
        case Stopped():
            return {"stopped": {}}


def hear(message: Json) -> Booted | FromAgent | Output | Stopped:
    """Read a message of the machine's, which may have been taken over.

    :raises MalformedError: none of the four.
    """
    with Fields(message, "message") as fields:
        match fields.names(most=1):
            case ("agent",):
                return FromAgent(fields.value("agent"))
            case ("output",):
                with fields.child("output") as output:
                    return Output(output.parsed("stream", Stream), output.binary("data", max_length=MAX_OUTPUT))
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


def _number(name: str) -> int:
    if not (name.isascii() and name.isdecimal() and int(name) < _PCRS and str(int(name)) == name):
        raise MalformedError("`booted.pcrs` has a member that isn't a register's number")
    return int(name)
