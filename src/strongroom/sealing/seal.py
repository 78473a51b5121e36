"""Sealing one stream of bytes: header, then segments, in one pass and in bounded memory. Nothing is patched afterwards.

Pure but for the two callables it is given: where plaintext comes from and where ciphertext goes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import UsageError
from strongroom.core.secret import SecretBytes
from strongroom.sealing.floe import IV_LENGTH, NONCE_LENGTH, OVERHEAD, Floe, wipe
from strongroom.sealing.header import SealedHeader
from strongroom.sealing.prelude import Prelude, key_commitment
from strongroom.sealing.tree import Tree, leaf

RandomBytes = Callable[[int], bytes]
_SLOTS: Final = 6
"""Segments in memory at once, plaintext and ciphertext each: 12 MiB at the default segment length."""


class Readable(Protocol):
    """Where plaintext comes from: any raw or buffered binary file."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill some of ``buffer``; 0 at the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFacts:
    """What sealing one object gave: what the manifest and the index say of it."""

    header: Digest
    """SHA-256 of the first 4,096 bytes."""
    root: Digest
    """Root of the tree over the ciphertext."""
    size: int
    """Bytes of the sealed object."""
    plain_size: int
    plain_digest: Digest


class _Slot:
    """One segment's plaintext and ciphertext buffers, used again and again."""

    __slots__ = ("length", "plain", "sealed")

    def __init__(self, segment_length: int) -> None:
        self.plain = memoryview(bytearray(segment_length - OVERHEAD))
        self.sealed = memoryview(bytearray(segment_length))
        self.length = 0

    def fill(self, source: Readable) -> None:
        """Read until the segment is full or the source ends: a short read is not the end."""
        self.length = 0
        while self.length < len(self.plain):
            got = source.readinto(self.plain[self.length :])
            if not got:
                return
            self.length += got


def at_once(function: Callable[..., bytes], /, *args: object) -> Future[bytes]:
    """Run ``function`` now and return its outcome as a future: a pool of no threads."""
    future: Future[bytes] = Future()
    try:
        future.set_result(function(*args))
    except BaseException as error:  # noqa: BLE001 - handed over to whoever asks for the result, as a pool does
        future.set_exception(error)
    return future


def seal_object(
    source: Readable,
    write: Callable[[memoryview], object],
    *,
    prelude: Prelude,
    data_key: SecretBytes,
    random_bytes: RandomBytes,
    pool: Executor | None = None,
    progress: Callable[[int], object] | None = None,
) -> SealedFacts:
    """Seal everything that ``source`` gives; ``write`` gets the object's bytes in order and must take all of them.

    ``progress`` is told the plaintext bytes of each segment written. The plaintext buffers are wiped at the end.

    :raises UsageError: the prelude names another data key.
    """
    if prelude.commitment != key_commitment(data_key):
        raise UsageError("the prelude names another data key than the one given")
    floe, tag = Floe.begin(data_key, prelude.to_bytes(), random_bytes(IV_LENGTH), prelude.parameters)
    header = SealedHeader(prelude, tag)
    slots = [_Slot(prelude.parameters.segment_length) for _ in range(_SLOTS if pool else 2)]
    try:
        write(memoryview(header.to_bytes()))
        run = _Run(floe, write, random_bytes, pool, progress)
        run.tree.add(leaf(header.to_bytes()))
        run.all(source, deque(slots))
    finally:
        floe.wipe()
        for slot in slots:
            wipe(slot.plain)
    return SealedFacts(
        header=header.digest,
        root=run.tree.root(),
        size=len(header.to_bytes()) + run.written,
        plain_size=run.plain_size,
        plain_digest=Digest(DigestAlgorithm.SHA256, run.hasher.digest()),
    )


class _Run:
    """The state of one pass over a source."""

    def __init__(
        self,
        floe: Floe,
        write: Callable[[memoryview], object],
        random_bytes: RandomBytes,
        pool: Executor | None,
        progress: Callable[[int], object] | None,
    ) -> None:
        self._floe = floe
        self._write = write
        self._random = random_bytes
        self._submit = pool.submit if pool else at_once
        self._progress = progress
        self._waiting: deque[tuple[_Slot, Future[bytes]]] = deque()
        self.tree = Tree()
        self.hasher = hashlib.sha256()
        self.written = 0
        self.plain_size = 0

    def all(self, source: Readable, free: deque[_Slot]) -> None:
        """Seal segment by segment. One segment is read ahead, to know which one is the last."""
        current = free.popleft()
        current.fill(source)
        position, final = 0, False
        try:
            while not final:
                if not free:
                    free.append(self._finish_oldest())
                following = free.popleft()
                following.fill(source)
                final = following.length == 0
                # Nonces are drawn here, in order, so that the same random bytes give the same object.
                nonce = self._random(NONCE_LENGTH)
                self._waiting.append((current, self._submit(self._encrypt, current, position, nonce, final)))
                self.hasher.update(current.plain[: current.length])
                current, position = following, position + 1
            while self._waiting:
                self._finish_oldest()
        finally:
            # After a failure no thread may still write into a buffer that is about to be wiped.
            for _slot, future in self._waiting:
                future.exception()

    def _encrypt(self, slot: _Slot, position: int, nonce: bytes, final: bool) -> bytes:  # noqa: FBT001 - a pool's argument
        out = slot.sealed[: slot.length + OVERHEAD]
        self._floe.encrypt_segment(out, slot.plain[: slot.length], position=position, nonce=nonce, final=final)
        return leaf(out)

    def _finish_oldest(self) -> _Slot:
        slot, future = self._waiting[0]
        self.tree.add(future.result())
        self._waiting.popleft()
        self._write(slot.sealed[: slot.length + OVERHEAD])
        self.written += slot.length + OVERHEAD
        self.plain_size += slot.length
        if self._progress:
            self._progress(slot.length)
        return slot
