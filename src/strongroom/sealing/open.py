"""Opening one sealed object: any ranges of it, in order, or all of it, straight into the caller's memory.

The checks, in the order of docs/spec/sealed-weights.md. No plaintext leaves before all that concern it have passed.

1. Form: magic, version, suite, reserved bytes.
2. Length: the object has the size that the manifest names.
3. Identity: the model version and the object are the ones asked for.
4. Header: its digest is the one in the manifest.
5. Data key: its commitment is the one in the prelude.
6. Header tag: the header is authentic under the data key.
7. Last segment: it is authentic and final, which proves the length.
8. Each segment read: it is authentic at its place.
9. Whole objects: the tree root over the ciphertext is the one that the publisher signed.

Step 9 stops another holder of the data key, who can make segments that pass step 8. It takes the whole object and a
SHA-256 over it, so a reader of ranges can't do it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Self

from strongroom.core.digest import Digest
from strongroom.core.secret import SecretBytes
from strongroom.sealing.diagnose import diagnose
from strongroom.sealing.errors import (
    CiphertextMismatchError,
    ExtendedError,
    HeaderMismatchError,
    HeaderTamperedError,
    OtherModelObjectError,
    OtherObjectError,
    SealedObjectError,
    TruncatedError,
    WrongDataKeyError,
)
from strongroom.sealing.floe import OVERHEAD, Floe, wipe
from strongroom.sealing.header import HEADER_LENGTH, Geometry, SealedHeader
from strongroom.sealing.plan import Job, Part, in_runs, wanted_plan, whole_plan
from strongroom.sealing.prelude import key_commitment
from strongroom.sealing.seal import at_once
from strongroom.sealing.source import PositionalSource, exactly
from strongroom.sealing.spread import Engine, spread
from strongroom.sealing.tree import Tree, leaf

_SLOTS: Final = 6
ONE_THREAD: Final = Engine()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectExpectation:
    """What the signed manifest says of one object."""

    name: str
    """For messages: the object's opaque name."""
    model_version: bytes
    object_id: bytes
    size: int
    header: Digest
    root: Digest


def check_header(source: PositionalSource, expected: ObjectExpectation) -> tuple[SealedHeader, Geometry]:
    """Do steps 1 to 4, which need no key, and return the header and where the segments lie.

    :raises NotSealedError: step 1, no magic.
    :raises SealedFormatError: step 1, a form that isn't allowed.
    :raises SuiteRefusedError: step 1, a cipher suite that this reader doesn't allow.
    :raises TruncatedError: step 2, too short.
    :raises ExtendedError: step 2, too long.
    :raises OtherModelObjectError: step 3, sealed for another model version.
    :raises OtherObjectError: step 3, another object of this model version.
    :raises HeaderMismatchError: step 4.
    """
    name, size = expected.name, source.size
    header = SealedHeader.parse(bytes(exactly(source, 0, min(size, HEADER_LENGTH), object_name=name)), object_name=name)
    if size < expected.size:
        raise TruncatedError(f"{size} bytes, but {expected.size} were sealed", object_name=name)
    if size > expected.size:
        raise ExtendedError(f"{size} bytes, but {expected.size} were sealed", object_name=name)
    if header.prelude.model_version != expected.model_version:
        raise OtherModelObjectError("sealed for another model or another version of it", object_name=name)
    if header.prelude.object_id != expected.object_id:
        raise OtherObjectError("another object of this model lies under this name", object_name=name)
    if not header.digest.matches(expected.header):
        raise HeaderMismatchError("the header isn't the one that the manifest names", object_name=name)
    return header, Geometry.of_object(size, 1 << header.prelude.segment_bits, object_name=name)


class ObjectReader:
    """One sealed object, opened: steps 1 to 7 are done when it is made, step 8 at each read. A context manager.

    Threads may share one. Each read is spread over the engine's threads.

    :raises SealedObjectError: (construction and every read) the subclass says which step failed.
    """

    def __init__(
        self,
        source: PositionalSource,
        expected: ObjectExpectation,
        data_key: SecretBytes,
        *,
        engine: Engine = ONE_THREAD,
    ) -> None:
        self._source, self._expected, self._name = source, expected, expected.name
        self._engine = engine
        self._submit: Callable[..., Future[bytes]] = engine.pool.submit if engine.pool else at_once
        header, self.geometry = check_header(source, expected)
        if header.prelude.commitment != key_commitment(data_key):
            raise WrongDataKeyError(
                "sealed under another data key", object_name=self._name, remedy="ask for this version's own data key"
            )
        self._header_leaf = leaf(header.to_bytes())
        try:
            self._floe = Floe.resume(data_key, header.prelude.to_bytes(), header.floe, header.prelude.parameters)
        except HeaderTamperedError as error:
            raise HeaderTamperedError(error.message, object_name=self._name) from None
        self._failed: SealedObjectError | None = None
        try:
            self._prove_length()
        except SealedObjectError:
            self._floe.wipe()
            raise

    @property
    def plain_size(self) -> int:
        """Plaintext bytes in all."""
        return self.geometry.plain_size

    def _prove_length(self) -> None:
        last = self.geometry.segments - 1
        with self._engine.scratch(self.geometry.segment_length) as scratch:
            self._open(last, self._piece(last, 1), scratch[: self.geometry.last_length - OVERHEAD])

    def _piece(self, position: int, count: int) -> memoryview:
        # One failed segment condemns the object: a caller that catches the error and reads on gets nothing more.
        if self._failed:
            raise self._failed
        length = (count - 1) * self.geometry.segment_length + self.geometry.length(position + count - 1)
        return exactly(self._source, self.geometry.offset(position), length, object_name=self._name)

    def _open(self, position: int, segment: memoryview, out: memoryview) -> None:
        try:
            self._floe.decrypt_segment(out, segment, position=position, final=position == self.geometry.segments - 1)
        except SealedObjectError as error:
            self._failed = diagnose(
                self._floe, self._source, self.geometry, bytes(segment), position, found=error, object_name=self._name
            )
            raise self._failed from None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with plaintext from ``offset``; the buffer is wiped if any segment fails.

        :raises UsageError: the range isn't within the plaintext.
        """
        self.read_parts([Part(offset, buffer)])

    def read_parts(self, parts: Sequence[Part]) -> None:
        """Fill all ``parts``; only the segments that they touch are read, each once. All are wiped if any fails.

        :raises UsageError: a part isn't within the plaintext.
        """
        self._read(parts, wanted_plan(parts, self.geometry), hashed=None)

    def read_parts_of_whole(self, parts: Sequence[Part]) -> None:
        """Fill all ``parts`` and do step 9, for which every segment is read. All are wiped if anything fails.

        The bytes that are hashed are those that are decrypted, so ``source`` must not be memory that others can change.

        :raises UsageError: a part isn't within the plaintext.
        :raises CiphertextMismatchError: step 9.
        """
        hashed = [b""] * self.geometry.segments
        self._read(parts, whole_plan(parts, self.geometry), hashed=hashed)

    def _read(self, parts: Sequence[Part], jobs: list[Job], *, hashed: list[bytes] | None) -> None:
        # Large requests suit a storage, but a small read is better spread over all threads.
        most = min(
            self._source.stride // self.geometry.segment_length,
            -(-len(jobs) // min(self._engine.threads, self._source.depth)),
        )
        runs = in_runs(jobs, most=max(1, most))
        try:
            spread(
                self._engine,
                runs,
                lambda run, scratch: self._read_run(run, scratch, hashed),
                scratch=self.geometry.segment_length,
                depth=self._source.depth,
            )
            if hashed is not None:
                self._check_root(hashed)
        except BaseException:
            for part in parts:
                wipe(part.buffer)
            raise

    def _scratch(self) -> memoryview:
        return self._engine.allocate(self.geometry.segment_length)

    def _read_run(self, run: list[Job], scratch: memoryview, hashed: list[bytes] | None) -> None:
        first = run[0].position
        piece = self._piece(first, len(run))
        for job in run:
            start = (job.position - first) * self.geometry.segment_length
            segment = piece[start : start + self.geometry.length(job.position)]
            if hashed is not None:
                hashed[job.position] = leaf(segment)
            have = len(segment) - OVERHEAD
            if len(job.pieces) == 1 and len(job.pieces[0].buffer) == have:
                self._open(job.position, segment, job.pieces[0].buffer)
                continue
            plain = scratch[:have]
            self._open(job.position, segment, plain)
            for wanted in job.pieces:
                wanted.buffer[:] = plain[wanted.offset : wanted.offset + len(wanted.buffer)]

    def segments(self) -> Iterator[memoryview]:
        """Yield the plaintext in order, with step 9 before the last chunk: who has all of it has the right bytes.

        A chunk is read-only and valid until the next is asked for; all are wiped.

        :raises CiphertextMismatchError: step 9.
        """
        count = self.geometry.segments
        slots = [self._scratch() for _ in range(min(_SLOTS, count))]
        hashed = [b""] * count
        waiting: deque[tuple[memoryview, Future[bytes]]] = deque()
        ahead = 0
        try:
            for position in range(count):
                while ahead < count and len(waiting) < len(slots):
                    out = slots[ahead % len(slots)][: self.geometry.length(ahead) - OVERHEAD]
                    waiting.append((out, self._submit(self._hash_and_open, ahead, out, hashed)))
                    ahead += 1
                waiting[0][1].result()
                if position == count - 1:
                    self._check_root(hashed)
                yield waiting[0][0].toreadonly()
                waiting.popleft()
        finally:
            for _out, future in waiting:
                future.exception()
            for slot in slots:
                wipe(slot)

    def _hash_and_open(self, position: int, out: memoryview, hashed: list[bytes]) -> bytes:
        segment = self._piece(position, 1)
        hashed[position] = leaf(segment)
        self._open(position, segment, out)
        return b""

    def _check_root(self, hashed: Sequence[bytes]) -> None:
        tree = Tree()
        tree.add(self._header_leaf)
        for one in hashed:
            tree.add(one)
        if not tree.root().matches(self._expected.root):
            self._failed = CiphertextMismatchError(
                "authentic, but not what the publisher signed: another holder of the data key made it",
                object_name=self._name,
            )
            raise self._failed

    def close(self) -> None:
        """Forget the derived keys."""
        self._floe.wipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
