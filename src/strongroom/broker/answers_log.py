"""What the broker answers about the log: its checkpoint, its seams, entries and proofs."""

from __future__ import annotations

from strongroom.broker.answers import Answer


class CheckpointAnswer(Answer):
    """The newest signed checkpoint (C2SP signed note)."""

    size: int
    checkpoint: str


class SeamShown(Answer):
    """How a shard was closed, base64 each: its final checkpoint, its last entry, and that entry's audit path."""

    checkpoint: str
    entry: str
    proof: list[str]


class SeamsAnswer(Answer):
    """How the log's shards were closed, oldest first; none where the one that was asked for is open."""

    seams: list[SeamShown]


class EntriesAnswer(Answer):
    """Entries of the log from ``start`` on."""

    start: int
    entries: list[str]


class InclusionAnswer(Answer):
    """A leaf hash and its audit path, leaf to root."""

    leaf: str
    proof: list[str]


class ProvenEntry(Answer):
    """An entry, base64, and its audit path, leaf to root."""

    entry: str
    proof: list[str]


class TogetherAnswer(Answer):
    """Entries in the order in which they were asked for; fewer where there would be too much."""

    entries: list[ProvenEntry]


class ConsistencyAnswer(Answer):
    """A consistency proof."""

    proof: list[str]
