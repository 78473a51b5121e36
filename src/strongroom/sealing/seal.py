"""Sealing one stream of bytes: header, then segments, in one pass and in bounded memory. Nothing is patched afterwards.

Pure but for what it is given: where ciphertext goes, randomness, and threads. A segment is encrypted in the buffer that
held its plaintext, so that sealing wipes what it was given as it goes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Final, Protocol, Self

from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.secret import SecretBytes
from strongroom.sealing.floe import IV_LENGTH, LENGTH_FIELD, NONCE_LENGTH, OVERHEAD, Floe, wipe
from strongroom.sealing.header import HEADER_LENGTH, SealedHeader
from strongroom.sealing.prelude import Prelude, key_commitment
from strongroom.sealing.tree import Tree, leaf

RandomBytes = Callable[[int], bytes]
Allocate = Callable[[int], memoryview]
"""Makes a writable buffer, not cleared: who asks fills or wipes it. Adapters give memory that core dumps leave out."""
Put = Callable[[int, memoryview], object]
"""Takes all of the bytes for that offset of the object. Called from the pool's threads, in any order."""
_SLOTS: Final = 8
"""Segments in memory at once: 8 MiB at the default segment length."""
_HEAD: Final = LENGTH_FIELD + NONCE_LENGTH


class Readable(Protocol):
    """Where plaintext comes from: any raw or buffered binary file."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill some of ``buffer``; 0 at the end."""
        ...


def heap(size: int) -> memoryview:
    """Allocate on the ordinary heap."""
    return memoryview(bytearray(size))


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


def at_once(function: Callable[..., bytes], /, *args: object) -> Future[bytes]:
    """Run ``function`` now and return its outcome as a future: a pool of no threads."""
    future: Future[bytes] = Future()
    try:
        future.set_result(function(*args))
    except BaseException as error:  # noqa: BLE001 - handed over to whoever asks for the result, as a pool does
        future.set_exception(error)
    return future


@dataclass(frozen=True, slots=True)
class Stream:
    """One object's encryption: its header, its keys, and the leaves of the segments that are there already."""

    header: SealedHeader
    floe: Floe
    leaves: tuple[bytes, ...] = ()

    @classmethod
    def begun(cls, prelude: Prelude, data_key: SecretBytes, random_bytes: RandomBytes) -> Stream:
        """Begin a new object.

        :raises UsageError: the prelude names another data key.
        """
        if prelude.commitment != key_commitment(data_key):
            raise UsageError("the prelude names another data key than the one given")
        floe, tag = Floe.begin(data_key, prelude.to_bytes(), random_bytes(IV_LENGTH), prelude.parameters)
        return cls(SealedHeader(prelude, tag), floe)

    @classmethod
    def resumed(cls, header: SealedHeader, data_key: SecretBytes, leaves: Sequence[bytes]) -> Stream:
        """Go on after ``leaves``, the hashes of the segments that are there and authentic (none of them final).

        Safe under the same IV: each segment gets a fresh random nonce, and those that are kept aren't made again.

        :raises HeaderTamperedError: the header isn't authentic under ``data_key``.
        """
        floe = Floe.resume(data_key, header.prelude.to_bytes(), header.floe, header.prelude.parameters)
        return cls(header, floe, tuple(leaves))


class ObjectSealer:
    """One object being sealed: :meth:`write` or :meth:`fill` in order, then :meth:`finish`. A context manager."""

    def __init__(
        self,
        put: Put,
        stream: Stream,
        *,
        random_bytes: RandomBytes,
        pool: Executor | None = None,
        allocate: Allocate = heap,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.header = stream.header
        self._put, self._floe, self._random = put, stream.floe, random_bytes
        self._submit: Callable[..., Future[bytes]] = pool.submit if pool else at_once
        self._allocate, self._progress = allocate, progress
        self._stride = stream.header.prelude.parameters.segment_length
        self._room = self._stride - OVERHEAD
        self._free: list[memoryview] = []
        self._made = 0
        self._waiting: deque[tuple[memoryview, int, Future[bytes]]] = deque()
        self._tree = Tree()
        for one in (leaf(stream.header.to_bytes()), *stream.leaves):
            self._tree.add(one)
        self._position = len(stream.leaves)
        self._plain_size = self._position * self._room
        self._slot: memoryview | None = None
        self._used = 0
        put(0, memoryview(stream.header.to_bytes()))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Seal some more plaintext.

        :raises OSError: what ``put`` raised for an earlier segment.
        """
        view = memoryview(data).cast("B") if not isinstance(data, memoryview) or data.format != "B" else data
        while view:
            space = self._space()
            take = min(len(view), len(space))
            space[:take] = view[:take]
            self._used += take
            view = view[take:]

    def lend(self, data: memoryview) -> None:
        """Seal some more plaintext without copying it: ``data`` must not change until :meth:`finish` returns.

        :raises OSError: what ``put`` raised for an earlier segment.
        """
        view = data
        while view:
            if self._slot is None and len(view) > self._room:
                slot = self._take()
                self._submit_segment(slot, view[: self._room], final=False)
                view = view[self._room :]
            else:
                # Only what doesn't fill a segment is copied. One that is full waits: it might be the last.
                take = min(len(view), len(self._space()))
                self.write(view[:take])
                view = view[take:]
                if view:
                    self._seal(final=False)

    def fill(self, source: Readable) -> None:
        """Seal all that ``source`` gives, read into the segments themselves."""
        while True:
            if self._slot is None or self._used < self._room:
                got = source.readinto(self._space())
                if not got:
                    return
                self._used += got
                continue
            # A full segment is the last one unless something follows it.
            following = self._take()
            got = source.readinto(following[_HEAD : _HEAD + self._room])
            if not got:
                self._free.append(following)
                return
            self._seal(final=False)
            self._slot, self._used = following, got

    def _space(self) -> memoryview:
        """Return where plaintext goes next. A full segment is sealed only now: before, it might have been the last."""
        if self._slot is not None and self._used == self._room:
            self._seal(final=False)
        if self._slot is None:
            self._slot, self._used = self._take(), 0
        return self._slot[_HEAD + self._used : _HEAD + self._room]

    def _take(self) -> memoryview:
        if not self._free:
            if self._made < _SLOTS:
                self._made += 1
                return self._allocate(self._stride)
            self._finish_oldest()
        return self._free.pop()

    def _seal(self, *, final: bool) -> None:
        slot = self._slot or self._take()
        self._slot = None
        self._submit_segment(slot, slot[_HEAD : _HEAD + self._used], final=final)

    def _submit_segment(self, slot: memoryview, plain: memoryview, *, final: bool) -> None:
        # Nonces are drawn here, in order, so that the same random bytes give the same object.
        nonce = self._random(NONCE_LENGTH)
        job = self._submit(self._encrypt, slot, plain, self._position, nonce, final)
        self._waiting.append((slot, len(plain), job))
        self._position += 1
        self._plain_size += len(plain)

    def _encrypt(self, slot: memoryview, plain: memoryview, position: int, nonce: bytes, final: bool) -> bytes:  # noqa: FBT001 - a pool's argument
        out = slot[: len(plain) + OVERHEAD]
        self._floe.encrypt_segment(out, plain, position=position, nonce=nonce, final=final)
        self._put(HEADER_LENGTH + position * self._stride, out)
        return leaf(out)

    def _finish_oldest(self) -> None:
        slot, used, job = self._waiting[0]
        self._tree.add(job.result())
        self._waiting.popleft()
        self._free.append(slot)
        if self._progress:
            self._progress(used)

    def finish(self) -> SealedFacts:
        """Seal what is left as the final segment and wait for all of them.

        :raises OSError: what ``put`` raised.
        """
        if self._slot is None:
            self._used = 0
        self._seal(final=True)
        while self._waiting:
            self._finish_oldest()
        size = HEADER_LENGTH + self._plain_size + OVERHEAD * self._position
        return SealedFacts(header=self.header.digest, root=self._tree.root(), size=size, plain_size=self._plain_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        # No thread may still write into a buffer that is about to be wiped.
        for _slot, _used, job in self._waiting:
            job.exception()
        self._floe.wipe()
        waiting = [slot for slot, _used, _job in self._waiting]
        for slot in (*self._free, *waiting, *([self._slot] if self._slot else [])):
            wipe(slot)
        self._free.clear()
        self._waiting.clear()
        self._slot = None
