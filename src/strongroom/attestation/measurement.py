"""What a launcher measures into PCR 14 before an agent runs, and how anyone replays it.

Order and names are fixed: interpreter, files, command, sandbox, genesis. What is extended is not the bare digest but
``SHA-256("strongroom/measurement/v1" 00 name 00 digest)``, so that a log can't swap the names of two events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
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


def measured_set(measurements: Iterable[Measurement]) -> dict[str, str]:
    """Return a launch's measurements as reference values list them: name to digest."""
    return {measurement.name.value: str(measurement.digest) for measurement in measurements}


def expected_pcr(measurements: Iterable[Measurement]) -> bytes:
    """Return the PCR's value (32 bytes) after a reset and then each measurement in turn."""
    value = bytes(32)
    for measurement in measurements:
        value = hashlib.sha256(value + measurement.extension).digest()
    return value


BOOT_PCRS: Final = frozenset({4, 8, 9, 11})
"""Where what is booted is measured: the loader's or unified image's code, GRUB's texts and files, the unified image."""


def require_enough(names: Collection[str]) -> None:
    """Check that what an image lists for a TPM says what runs: a launch, or a whole machine.

    A launch is all five measurements of its launcher, with or without PCR values beside them. A machine is the value of
    a PCR that depends on what was booted, and of PCR 14: without that, anything could have been launched on it.

    :raises MalformedError: neither. PCR 0 and 7 alone, say, are the same for every system on that firmware.
    """
    launch = {name.value for name in MeasuredName}
    machine = {f"pcr{number}" for number in BOOT_PCRS}
    listed = launch.intersection(names)
    if listed == launch or (not listed and f"pcr{MEASURED_PCR}" in names and machine.intersection(names)):
        return
    raise MalformedError(
        f"an image on a TPM lists {', '.join(MeasuredName)}; or `pcr{MEASURED_PCR}` and one of "
        f"{', '.join(sorted(machine))}"
    )


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
