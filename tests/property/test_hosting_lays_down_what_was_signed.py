"""Whatever sizes a log is published at, its host holds exactly the files of each; and nothing that wasn't signed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.errors import LogError
from strongroom.audit.hosting import HostDiffersError, HostMovedError, lacking, publish_shard
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.tiles import CHECKPOINT, WIDTH, Tile, TileBuilder, bundles_of, encode_bundle, tiles_of
from support.examples import examples
from support.logs import LOG_KEY, LOG_SIGNER, ORIGIN

ENTRIES = [f"entry {number}".encode() for number in range(66_000)]
SIZES = (0, 1, 2, 255, 256, 257, 511, 512, 600, 65_535, 65_536, 65_537, 66_000)


@dataclass
class Files:
    """Files in memory: a source and a host."""

    held: dict[str, bytes] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    left: int = 1 << 30
    """Files that it still takes before it breaks."""

    def read(self, path: str) -> bytes | None:
        return self.held.get(path)

    def place(self, files: Iterable[tuple[str, bytes]]) -> None:
        for path, data in files:
            if self.held.get(path, data) != data:
                raise HostDiffersError(path)
            self._write(path, data)

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        if self.held.get(path) != before:
            raise HostMovedError(path)
        self._write(path, data)

    def _write(self, path: str, data: bytes) -> None:
        if not self.left:
            raise ConnectionError(path)
        self.left -= 1
        self.held[path] = data
        self.order.append(path)


@cache
def logs() -> dict[int, Files]:
    """Return the published logs of the first entries, by size: one log, looked at while it grows."""
    builder, frontier, whole, made = TileBuilder(), Frontier(), dict[str, bytes](), dict[int, Files]()
    for size in SIZES:
        for entry in ENTRIES[builder.size : size]:
            leaf = leaf_hash(entry)
            frontier.append(leaf)
            whole.update((tile.path, data) for tile, data in builder.append(leaf))
        files = Files(dict(whole))
        files.held.update((tile.path, data) for tile, data in builder.partials())
        for bundle in bundles_of(size):
            begin = bundle.index * WIDTH
            files.held[bundle.path] = encode_bundle(ENTRIES[begin : begin + bundle.width])
        files.held[CHECKPOINT] = Checkpoint(ORIGIN, size, frontier.root()).sign(LOG_SIGNER)
        made[size] = files
    return made


def paths(size: int) -> set[str]:
    return {tile.path for tile in (*tiles_of(size), *bundles_of(size))}


@given(st.sets(st.sampled_from(SIZES), min_size=1))
@settings(max_examples=examples(60))  # each publishes 66,000 entries, more often than not
def test_a_host_holds_the_files_of_every_size_that_was_published(sizes: set[int]) -> None:
    host, wanted = Files(), {CHECKPOINT}
    for size in sorted(sizes):
        publish_shard(logs()[size], host, LOG_KEY)
        wanted |= paths(size)
        assert host.order[-1] == CHECKPOINT
        assert {path: logs()[size].held[path] for path in paths(size)} == {
            path: host.held[path] for path in paths(size)
        }
    assert set(host.held) == wanted
    assert len(host.order) == len(wanted) - 1 + len(sizes)


@given(st.sampled_from(SIZES), st.sampled_from(SIZES))
def test_what_is_lacking_is_the_difference(one: int, other: int) -> None:
    before, size = sorted((one, other))
    head = read_checkpoint(logs()[size].held[CHECKPOINT], LOG_KEY)
    assert {path for path, _ in lacking(logs()[size], head, before)} == paths(size) - paths(before)


@given(st.sampled_from(SIZES[1:9]), st.data())
def test_it_may_be_interrupted_anywhere(size: int, data: st.DataObject) -> None:
    host = Files(left=data.draw(st.integers(0, len(paths(size)))))
    with pytest.raises(ConnectionError):
        publish_shard(logs()[size], host, LOG_KEY)
    assert CHECKPOINT not in host.held
    host.left = 1 << 30
    publish_shard(logs()[size], host, LOG_KEY)
    assert host.held == {path: logs()[size].held[path] for path in (*paths(size), CHECKPOINT)}


@given(st.sampled_from([size for size in SIZES if size]), st.data())
def test_nothing_leaves_that_was_not_signed(size: int, data: st.DataObject) -> None:
    source, host = Files(dict(logs()[size].held)), Files()
    path = data.draw(st.sampled_from(sorted(paths(size))))
    changed = bytearray(source.held.pop(path))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        source.held[path] = bytes(changed)
    with pytest.raises(LogError):
        publish_shard(source, host, LOG_KEY)
    assert CHECKPOINT not in host.held
    assert all(logs()[size].held[laid] == sent for laid, sent in host.held.items())


def test_a_bundle_is_yielded_with_the_tile_over_it() -> None:
    head = read_checkpoint(logs()[257].held[CHECKPOINT], LOG_KEY)
    assert [path for path, _ in lacking(logs()[257], head, 256)] == [
        Tile(None, 1, 1).path,
        Tile(0, 1, 1).path,
    ]
