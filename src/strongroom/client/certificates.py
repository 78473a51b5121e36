"""A destruction certificate in words: what is gone, who had the data keys, and what nobody reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from strongroom.core.clock import format_instant
from strongroom.core.printable import printable
from strongroom.keys.provider import Finality
from strongroom.release.destruction import (
    Certificate,
)
from strongroom.release.destruction_parts import (
    Because,
    Copy,
    Medium,
)

_MEDIA: Final = {
    Medium.PROVIDER: "the key service {name}",
    Medium.MOVED: "the key service that held generation {generation} of the root key before it was moved",
    Medium.KEYRINGS: "copies of the keyring up to generation {generation}: key packages, safes, snapshots of disks",
    Medium.DISK: "blocks of the keeper's disk that held the old keyring",
    Medium.SHARE: "the share of {name}, generation {generation}",
    Medium.BACKUP: "the backup {name}",
    Medium.STANZA: "sealed files that were opened to a recipient of their own",
    Medium.PLAINTEXT: "what it was sealed from, and what was made of it outside",
}
_BECAUSE: Final = {
    Because.NO_VERSIONS: "old versions of its key can't be destroyed from here",
    Because.REFUSED: "it refused, or still closes by the version of before",
    Because.UNAVAILABLE: "it gave no answer",
    Because.SCHEDULED: "it refuses the old versions now, and erases them later",
    Because.NOT_ANSWERED: "the custodian didn't sign that it is destroyed",
    Because.ELSEWHERE: "out of the keeper's reach",
    Because.UNKNOWN: "nobody knows whether there is one",
}


def certificate_lines(told: Certificate) -> Iterator[str]:
    """Yield a certificate as lines for a person."""
    yield f"destroyed         model {told.model}, {format_instant(told.destroyed_at)}, log entry {told.destroyed}"
    yield f"certificate       number {told.serial}, {format_instant(told.certified_at)}, over {told.log_size} entries"
    yield f"asked by          {told.requester}, request {told.request}"
    yield f"agreed to by      {', '.join(told.approvers)}, {format_instant(told.agreed_at)}, log entry {told.agreed}"
    for one in told.versions:
        yield f"version           {one.version}, manifest {one.manifest}, data key {printable(one.data_key)}"
    yield from _cut(told.versions_left_out, "versions")
    apart = "" if told.escrowed else ", which was in no escrow: no custodian could open it"
    yield f"gone              its key-encryption key {printable(told.kek)}{apart}"
    yield f"gone              epoch {told.epoch.before}, log entry {told.epoch_destroyed}; {told.epoch.after} follows"
    generation = told.generation
    yield f"gone              root key generation {generation.before}, log entry {generation.index}"
    for service in told.providers:
        when = "gone" if service.finality is Finality.DONE else "to be erased by the service"
        yield f"{when:<16}  versions before {printable(service.kept)} of {printable(service.provider)}"
    for answer in told.answered:
        yield f"gone, as signed   the share of {answer.custodian}, generation {answer.generation}, entry {answer.index}"
    for one_had in told.exposed:
        yield (
            f"had a data key    {one_had.how.value} by {one_had.person}, {one_had.uses} times, "
            f"{format_instant(one_had.first_at)} to {format_instant(one_had.last_at)}, entries {one_had.first} to "
            f"{one_had.last}"
        )
    yield from _cut(told.exposed_left_out, "requests")
    for copy in told.not_reachable:
        yield f"NOT REACHED       {_copy(copy)}: {_BECAUSE[copy.because]}"
    yield from _cut(told.not_reachable_left_out, "copies")


def _copy(copy: Copy) -> str:
    named = _MEDIA[copy.medium].format(name=printable(copy.name), generation=copy.generation)
    return named if copy.index is None else f"{named} (log entry {copy.index})"


def _cut(count: int, what: str) -> Iterator[str]:
    if count:
        yield f"                  and {count} {what} more: strongroom audit exposure"
