"""Derives the published folder (C2SP tlog-tiles) from what is already durable in the store.

Order of writing: full tiles and bundles, partial ones of the published size, then the checkpoint. Each file is
written beside its place, synced and renamed, and folders are synced before the checkpoint that speaks of them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.errors import TileError
from strongroom.audit.merkle import leaf_hash
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.sequencer import Batch
from strongroom.audit.tiles import CHECKPOINT, COSIGNED, WIDTH, Tile, TileBuilder, bundles_of, encode_bundle, tiles_of

_REBUILD: Final = "Move the published folder away and restart the log writer; it writes the folder anew."


def published_checkpoint(folder: Path, key: VerifierKey) -> Checkpoint | None:
    """Return the largest verified checkpoint that was published or cosigned, or None where there is none.

    :raises TamperedError: one isn't this log's, or isn't signed.
    """
    found = []
    for name in (CHECKPOINT, COSIGNED):
        with contextlib.suppress(FileNotFoundError):
            found.append(read_checkpoint((folder / name).read_bytes(), key))
    return max(found, key=lambda checkpoint: checkpoint.size, default=None)


def prune_bundles(folder: Path, minimum: int) -> None:
    """Remove the full bundles of entries below index ``minimum`` of a shard; what isn't there any more is no fault.

    :raises OSError: the disk refused.
    """
    for index in range(minimum // WIDTH):
        path = folder / Tile(None, index).path
        if path.exists():
            path.unlink()


class Publisher:
    """Writes tiles behind the log. Fed with committed batches, it can be rebuilt from the store at any time.

    :meth:`add` may be called from the commit thread while another thread is in :meth:`publish`.
    """

    def __init__(self, folder: Path, *, already: int = 0, cosign: Callable[[bytes], bytes] = lambda note: note) -> None:
        self._folder = folder
        self._cosign = cosign
        """Adds the log's own cosignature to a checkpoint that is about to be published."""
        self._already = already
        """Entries covered by the checkpoint on disk: full tiles below it are checked for presence, not written."""
        self._builder = TileBuilder()
        self._bundle: list[bytes] = []
        self._ready: list[tuple[Tile, bytes]] = []
        self._pending: deque[Batch] = deque()
        self._lag = 0
        self._guard = threading.Lock()
        self._dirty: set[Path] = set()
        self._latest: bytes | None = None
        self._on_disk: bytes | None = None
        self._shown: Note | None = None
        """What the published checkpoint holds: the log's signatures, and the witnesses' over this size."""
        self._with_partials = {tile.full for tile in (*tiles_of(already), *bundles_of(already)) if tile.width < WIDTH}

    @property
    def lag(self) -> int:
        """Bytes of committed entries that aren't published yet."""
        return self._lag

    def restore(self, _index: int, data: bytes, leaf: bytes) -> None:
        """Take an entry that the store held when it was opened."""
        self._grow(data, leaf)
        if self._builder.size <= self._already and self._ready:
            self._ready = [item for item in self._ready if not self._stands(item[0], len(item[1]))]
        if self._builder.size % (WIDTH * 16) == 0:
            self._write_ready()

    def add(self, batch: Batch) -> None:
        """Queue a committed batch."""
        with self._guard:
            self._pending.append(batch)
            self._lag += sum(map(len, batch.entries))

    def resume(self, checkpoint: bytes | None) -> None:
        """Tell the checkpoint of the restored store; it is what the next :meth:`publish` publishes."""
        self._latest = checkpoint

    def publish(self) -> int:
        """Write everything queued so far and return the published size.

        After a failure the next call tries again: every write is idempotent, and a file is renamed only once synced.

        :raises TileError: a file is already there with other bytes.
        :raises OSError: the disk refused.
        """
        self._take()
        self._write_ready()
        if self._latest is not None and self._latest != self._on_disk:
            latest = self._latest
            self._write_partials()
            self._sync_folders()
            shown = self._cosign(latest)
            self._place(self._folder / CHECKPOINT, shown)
            self._sync_folders()
            self._on_disk, self._shown = latest, Note.parse(shown)
            self._sweep()
        return self._builder.size

    def published_note(self) -> bytes | None:
        """Return the checkpoint as it was published last in this process, with every signature on it."""
        return None if self._shown is None else self._shown.to_bytes()

    def publish_cosigned(self, note: bytes) -> None:
        """Publish a checkpoint that a quorum cosigned, durably, in the place of the one before.

        :raises OSError: the disk refused.
        """
        self._place(self._folder / COSIGNED, note)
        self._sync_folders()

    def cosigned_checkpoint(self) -> bytes | None:
        """Return what :meth:`publish_cosigned` published last, by this process or an earlier one."""
        try:
            return (self._folder / COSIGNED).read_bytes()
        except FileNotFoundError:
            return None

    def add_cosignatures(self, note: bytes) -> None:
        """Put the signatures of ``note`` on the published checkpoint, if it is still the one that they are over."""
        added = Note.parse(note)
        if self._shown is not None and self._shown.text == added.text:
            merged = self._shown.signed_also(added.signatures)
            self._place(self._folder / CHECKPOINT, merged.to_bytes())
            self._sync_folders()
            self._shown = merged

    def _take(self) -> None:
        while self._pending:
            with self._guard:
                batch = self._pending.popleft()
                self._lag -= sum(map(len, batch.entries))
            for entry in batch.entries:
                self._grow(entry, leaf_hash(entry))
            self._latest = batch.checkpoint

    def _grow(self, entry: bytes, leaf: bytes) -> None:
        self._bundle.append(entry)
        self._ready.extend(self._builder.append(leaf))
        if len(self._bundle) == WIDTH:
            self._ready.append((Tile(None, self._builder.size // WIDTH - 1), encode_bundle(self._bundle)))
            self._bundle = []

    def _stands(self, tile: Tile, length: int) -> bool:
        try:
            return (self._folder / tile.path).stat().st_size == length
        except OSError:
            return False

    def _write_ready(self) -> None:
        while self._ready:
            tile, data = self._ready[0]
            self._write_once(tile, data)
            self._ready.pop(0)

    def _write_partials(self) -> None:
        partials = list(self._builder.partials())
        if self._bundle:
            index, width = divmod(self._builder.size, WIDTH)
            partials.append((Tile(None, index, width), encode_bundle(self._bundle)))
        for tile, data in partials:
            self._with_partials.add(tile.full)
            self._write_once(tile, data)

    def _write_once(self, tile: Tile, data: bytes) -> None:
        path = self._folder / tile.path
        try:
            present = path.read_bytes()
        except FileNotFoundError:
            self._place(path, data)
            return
        if present != data:
            # A tile never changes. Other bytes mean that somebody wrote here, or that this log was forked.
            raise TileError(f"the published `{tile.path}` isn't what the log says", remedy=_REBUILD)

    def _place(self, path: Path, data: bytes) -> None:
        missing = path.parent
        while not missing.exists():
            self._dirty.add(missing.parent)
            missing = missing.parent
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.new")
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        try:
            with os.fdopen(handle, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(handle)
        finally:
            os.close(handle)
        beside.replace(path)
        self._dirty.add(path.parent)

    def _sync_folders(self) -> None:
        for folder in sorted(self._dirty, key=lambda path: len(path.parts)):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self._dirty.clear()

    def _sweep(self) -> None:
        # Partial tiles go once the full one stands, as C2SP allows: readers of an older size cut the full one.
        for tile in [tile for tile in self._with_partials if (self._folder / tile.path).exists()]:
            folder = self._folder / f"{tile.path}.p"
            if folder.is_dir():
                for part in folder.iterdir():
                    part.unlink()
                folder.rmdir()
            self._with_partials.discard(tile)
