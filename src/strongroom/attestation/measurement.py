"""What a launcher measures into PCR 14 before an agent runs, and how anyone replays it.

Order and names are fixed: interpreter, files, command, sandbox, genesis. What is extended is not the bare digest but
``SHA-256("strongroom/measurement/v1" 00 name 00 digest)``, so that a log can't swap the names of two events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MEASURED_PCR: Final = 14
QUOTED_PCRS: Final = (MEASURED_PCR,)
MAX_EVENTS: Final = 16
_DOMAIN: Final = b"strongroom/measurement/v1"


class MeasuredName(StrEnum):
    """What is measured, in the order in which it is extended."""

    INTERPRETER = "interpreter"
    """SHA-256 of the interpreter's file."""
    FILES = "files"
    """Tree digest of the code that may be imported."""
    COMMAND = "command"
    """Digest of the argument list and the environment."""
    SANDBOX = "sandbox"
    """Digest of the sandbox's settings."""
    GENESIS = "genesis"
    """The deployment's genesis digest: an agent of one deployment can't serve another."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing measured: its name and its digest."""

    name: MeasuredName
    digest: Digest

    @property
    def extension(self) -> bytes:
        """The 32 bytes that are extended into the PCR."""
        return hashlib.sha256(_DOMAIN + b"\0" + self.name.value.encode() + b"\0" + self.digest.value).digest()

    @classmethod
    def read(cls, fields: Fields) -> Measurement:
        """Read ``{name, digest}``."""
        return cls(fields.parsed("name", MeasuredName), fields.digest("digest"))

    def to_json(self) -> dict[str, Json]:
        """Return ``{name, digest}``."""
        return {"name": self.name.value, "digest": str(self.digest)}


def expected_pcr(measurements: Iterable[Measurement]) -> bytes:
    """Return the PCR's value (32 bytes) after a reset and then each measurement in turn."""
    value = bytes(32)
    for measurement in measurements:
        value = hashlib.sha256(value + measurement.extension).digest()
    return value


def launch_measurements(
    *, interpreter: Digest, files: Digest, command: Digest, sandbox: Digest, genesis: Digest
) -> tuple[Measurement, ...]:
    """Return the five measurements of one launch, in their order."""
    return (
        Measurement(MeasuredName.INTERPRETER, interpreter),
        Measurement(MeasuredName.FILES, files),
        Measurement(MeasuredName.COMMAND, command),
        Measurement(MeasuredName.SANDBOX, sandbox),
        Measurement(MeasuredName.GENESIS, genesis),
    )


def command_digest(arguments: Sequence[str], environment: Mapping[str, str]) -> Digest:
    """Digest what is run and every environment variable that it sees: both can change what code does.

    :raises MalformedError: nothing to run.
    """
    if not arguments:
        raise MalformedError("a measured command needs at least the program")
    return facts_digest({"v": 1, "arguments": list(arguments), "environment": dict(environment)})


def facts_digest(facts: Json) -> Digest:
    """Digest structured facts (sandbox settings, say) over their canonical JSON."""
    return Digest.of(encode(facts))
