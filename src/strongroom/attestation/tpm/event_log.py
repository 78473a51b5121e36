"""The firmware's event log: what was extended into each PCR before an operating system ran.

Two forms (TCG PC Client Platform Firmware Profile 1.05 and later, section 10.2): the crypto-agile one, which begins
with ``Spec ID Event03`` and has a digest of each event for each bank, and the old one with SHA-1 alone. A confidential
guest's log (CCEL) has the agile form too, with measurement registers in place of PCRs.

A log proves nothing. It counts for a register once its replay gives the value that was quoted, and then only its
digests count: a log's types and data aren't extended. See :mod:`~strongroom.attestation.tpm.boot_facts` for data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader
from strongroom.tpm import wire

MAX_LOG: Final = 512 * 1024
MAX_EVENTS: Final = 8192
MAX_EVENT: Final = 256 * 1024
REGISTERS: Final = 24
EV_NO_ACTION: Final = 0x00000003
_NOWHERE: Final = 0xFFFFFFFF
"""The register of an event that describes rather than measures (section 10.4.5.6)."""
_SPEC_ID: Final = b"Spec ID Event03\0"
_LOCALITY: Final = b"StartupLocality\0"
_LOCALITIES: Final = frozenset({0, 3, 4})
_MAX_ALGORITHMS: Final = 8
_MAX_DIGEST: Final = 64


@dataclass(frozen=True, slots=True)
class Event:
    """One line: the register, what the log says that it is, a digest for each bank, and the data beside them."""

    register: int
    kind: int
    """``EV_...``; the log's word alone, except that what isn't extended is ``EV_NO_ACTION``."""
    digests: Mapping[int, bytes]
    data: bytes

    @property
    def extended(self) -> bool:
        """Whether the event changed its register."""
        return self.kind != EV_NO_ACTION


@dataclass(frozen=True, slots=True)
class EventLog:
    """A parsed log, in its order."""

    banks: frozenset[int]
    events: tuple[Event, ...]
    locality: int
    """Where the TPM was started from: PCR 0 begins with this number (section 10.4.5.3)."""

    @classmethod
    def parse(cls, data: bytes) -> EventLog:
        """Read a log in either form. Memory set aside for more events (all zero or all ones) may follow the last one.

        :raises MalformedError: cut, too long, too many events, an unknown digest, or a register above 23.
        """
        reader = Reader(data, "event log", max_bytes=MAX_LOG, order="little")
        first = _old_event(reader)
        if first.kind == EV_NO_ACTION and first.data.startswith(_SPEC_ID):
            sizes = _spec_id(first.data)
            events = tuple(_rest(reader, data, sizes))
        else:
            sizes = {wire.ALG_SHA1: wire.hash_bytes(wire.ALG_SHA1)}
            events = (first, *_rest(reader, data, None))
        return cls(banks=frozenset(sizes), events=events, locality=_locality(events))

    def extended(self, register: int) -> Iterator[Event]:
        """Yield the events that changed a register."""
        return (event for event in self.events if event.register == register and event.extended)


def replay(log: EventLog, bank: int) -> Mapping[int, bytes]:
    """Return the value of every register that the log says anything of, as of the log's end.

    :raises MalformedError: a bank that isn't hashed here, or that an event has no digest for.
    """
    if bank not in wire.HASH_NAMES or bank not in log.banks:
        raise MalformedError(f"the event log has no digests of the bank `{wire.algorithm_name(bank)}`")
    size = wire.hash_bytes(bank)
    values = {0: bytes(size - 1) + bytes([log.locality])} if log.locality else {}
    for event in log.events:
        if not event.extended:
            continue
        digest = event.digests.get(bank)
        if digest is None:
            raise MalformedError(f"an event has no digest of the bank `{wire.algorithm_name(bank)}`")
        values[event.register] = wire.hashed(bank, values.get(event.register, bytes(size)) + digest)
    return values


def _old_event(reader: Reader) -> Event:
    """Read a TCG_PCClientPCREvent."""
    register, kind = reader.integer(4), reader.integer(4)
    digests = {wire.ALG_SHA1: reader.take(wire.hash_bytes(wire.ALG_SHA1))}
    return Event(_register(register, kind), kind, digests, reader.counted(4, MAX_EVENT))


def _agile_event(reader: Reader, sizes: Mapping[int, int]) -> Event:
    """Read a TCG_PCR_EVENT2."""
    register, kind, count = (reader.integer(4) for _ in range(3))
    if not 1 <= count <= len(sizes):
        raise MalformedError(f"an event in the log has {count} digests; the log has {len(sizes)} banks")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.integer(2)
        if algorithm not in sizes or algorithm in digests:
            raise MalformedError("an event in the log has a digest that its log doesn't announce, or one twice")
        digests[algorithm] = reader.take(sizes[algorithm])
    return Event(_register(register, kind), kind, digests, reader.counted(4, MAX_EVENT))


def _rest(reader: Reader, data: bytes, sizes: Mapping[int, int] | None) -> Iterator[Event]:
    # Looked for at an event's start alone: an event's own last bytes can look like padding.
    padding = min(len(data.rstrip(b"\0")), len(data.rstrip(b"\xff")))
    for _ in range(MAX_EVENTS):
        if reader.at >= padding:
            return
        yield _old_event(reader) if sizes is None else _agile_event(reader, sizes)
    if reader.at < padding:
        raise MalformedError(f"an event log has at most {MAX_EVENTS} events")


def _register(register: int, kind: int) -> int:
    if register >= REGISTERS and not (register == _NOWHERE and kind == EV_NO_ACTION):
        raise MalformedError(f"an event in the log names the register {register}; there are {REGISTERS}")
    return register


def _spec_id(data: bytes) -> dict[int, int]:
    """Read a TCG_EfiSpecIDEvent: which banks the log has, and how long their digests are."""
    reader = Reader(data, "Spec ID event", max_bytes=MAX_EVENT, order="little")
    reader.take(len(_SPEC_ID))
    reader.take(4 + 3)  # platform class; version and errata
    if reader.integer(1) not in {1, 2}:
        raise MalformedError("a Spec ID event says that integers have 4 or 8 bytes")
    count = reader.integer(4)
    if not 1 <= count <= _MAX_ALGORITHMS:
        raise MalformedError(f"an event log has 1 to {_MAX_ALGORITHMS} banks, not {count}")
    sizes: dict[int, int] = {}
    for _ in range(count):
        algorithm, size = reader.integer(2), reader.integer(2)
        known = wire.hash_bytes(algorithm) if algorithm in wire.HASH_NAMES else size
        if algorithm in sizes or size != known or not 1 <= size <= _MAX_DIGEST:
            raise MalformedError("a Spec ID event has a bank twice, or with digests of another length")
        sizes[algorithm] = size
    reader.counted(1, 255)
    reader.end()
    return sizes


def _locality(events: tuple[Event, ...]) -> int:
    found = [e.data[len(_LOCALITY) :] for e in events if e.kind == EV_NO_ACTION and e.data.startswith(_LOCALITY)]
    if not found:
        return 0
    if len(found) > 1 or len(found[0]) != 1 or found[0][0] not in _LOCALITIES:
        raise MalformedError("the event log says more than once, or wrongly, where the TPM was started from")
    return found[0][0]
