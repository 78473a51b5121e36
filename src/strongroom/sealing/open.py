"""Opening one sealed object: random access, in order, or whole into the caller's buffer.

The checks, in the order of docs/spec/sealed-weights.md. No plaintext leaves before all that concern it have passed.

1. Form: magic, version, suite, reserved bytes.
2. Length: the object has the size that the manifest names.
3. Identity: the model version and the object are the ones asked for.
4. Header: its digest is the one in the manifest.
5. Data key: its commitment is the one in the prelude.
6. Header tag: the header is authentic under the data key.
7. Last segment: it is authentic and final, which proves the length.
8. Each segment read: it is authentic at its place.
9. Whole files: the plaintext has the digest that the publisher sealed.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Final, Self

from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import UsageError
from strongroom.core.secret import SecretBytes
from strongroom.sealing.diagnose import diagnose
from strongroom.sealing.errors import (
    ExtendedError,
    HeaderMismatchError,
    HeaderTamperedError,
    OtherModelObjectError,
    OtherObjectError,
    PlaintextMismatchError,
    SealedObjectError,
    TruncatedError,
    WrongDataKeyError,
)
from strongroom.sealing.floe import OVERHEAD, Floe, wipe
from strongroom.sealing.header import HEADER_LENGTH, Geometry, SealedHeader
from strongroom.sealing.prelude import key_commitment
from strongroom.sealing.seal import at_once
from strongroom.sealing.source import PositionalSource, read_exactly

_SLOTS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectExpectation:
    """What the signed manifest says of one object."""

    name: str
    """For messages: the object's opaque name."""
    model_version: bytes
    object_id: bytes
    size: int
    header: Digest


def check_header(source: PositionalSource, expected: ObjectExpectation) -> tuple[SealedHeader, Geometry]:
    """Do steps 1 to 4, which need no key, and return the header and where the segments lie.

    :raises NotSealedError: step 1, no magic.
    :raises SealedFormatError: step 1, a form that isn't allowed.
    :raises TruncatedError: step 2, too short.
    :raises ExtendedError: step 2, too long.
    :raises OtherModelObjectError: step 3, sealed for another model version.
    :raises OtherObjectError: step 3, another object of this model version.
    :raises HeaderMismatchError: step 4.
    """
    name, size = expected.name, source.size
    raw = bytearray(min(size, HEADER_LENGTH))
    read_exactly(source, 0, memoryview(raw), object_name=name)
    header = SealedHeader.parse(bytes(raw), object_name=name)
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

    :raises SealedObjectError: (construction and every read) the subclass says which step failed.
    """

    def __init__(
        self,
        source: PositionalSource,
        expected: ObjectExpectation,
        data_key: SecretBytes,
        *,
        pool: Executor | None = None,
    ) -> None:
        self._source = source
        self._name = expected.name
        self._local = threading.local()
        self._submit = pool.submit if pool else at_once
        header, self.geometry = check_header(source, expected)
        if header.prelude.commitment != key_commitment(data_key):
            raise WrongDataKeyError(
                "sealed under another data key", object_name=self._name, remedy="ask for this version's own data key"
            )
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
        scratch = memoryview(bytearray(self.geometry.last_length - OVERHEAD))
        try:
            self._decrypt(last, scratch)
        finally:
            wipe(scratch)

    def _decrypt(self, position: int, out: memoryview) -> bytes:
        # One failed segment condemns the object: a caller that catches the error and reads on gets nothing more.
        if self._failed:
            raise self._failed
        staging = getattr(self._local, "staging", None)
        if staging is None:
            staging = self._local.staging = memoryview(bytearray(self.geometry.segment_length))
        segment = staging[: self.geometry.length(position)]
        read_exactly(self._source, self.geometry.offset(position), segment, object_name=self._name)
        try:
            self._floe.decrypt_segment(out, segment, position=position, final=position == self.geometry.segments - 1)
        except SealedObjectError as error:
            self._failed = diagnose(
                self._floe, self._source, self.geometry, bytes(segment), position, found=error, object_name=self._name
            )
            raise self._failed from None
        return b""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with plaintext from ``offset``; the buffer is wiped if any segment fails.

        :raises UsageError: the range isn't within the plaintext.
        """
        if offset < 0 or offset + len(buffer) > self.plain_size:
            raise UsageError(
                f"bytes {offset} to {offset + len(buffer)} aren't within the {self.plain_size} of the file"
            )
        jobs: list[Future[bytes]] = []
        room = self.geometry.segment_length - OVERHEAD
        try:
            done = 0
            while done < len(buffer):
                position, skip = divmod(offset + done, room)
                have = self.geometry.length(position) - OVERHEAD
                part = buffer[done : done + have - skip]
                jobs.append(self._submit(self._part, position, skip, have, part))
                done += len(part)
            for job in jobs:
                job.result()
        except BaseException:
            for job in jobs:
                job.cancel()
                if not job.cancelled():
                    job.exception()
            wipe(buffer)
            raise

    def _part(self, position: int, skip: int, have: int, out: memoryview) -> bytes:
        if len(out) == have:
            return self._decrypt(position, out)
        scratch = memoryview(bytearray(have))
        self._decrypt(position, scratch)
        out[:] = scratch[skip : skip + len(out)]
        wipe(scratch)
        return b""

    def segments(self) -> Iterator[memoryview]:
        """Yield the plaintext in order. A chunk is read-only and valid until the next is asked for; all are wiped."""
        room = self.geometry.segment_length - OVERHEAD
        slots = [memoryview(bytearray(room)) for _ in range(min(_SLOTS, self.geometry.segments))]
        waiting: deque[tuple[memoryview, Future[bytes]]] = deque()
        ahead = 0
        try:
            for _position in range(self.geometry.segments):
                while ahead < self.geometry.segments and len(waiting) < len(slots):
                    out = slots[ahead % len(slots)][: self.geometry.length(ahead) - OVERHEAD]
                    waiting.append((out, self._submit(self._decrypt, ahead, out)))
                    ahead += 1
                waiting[0][1].result()
                yield waiting[0][0].toreadonly()
                waiting.popleft()
        finally:
            for _out, future in waiting:
                future.exception()
            for slot in slots:
                wipe(slot)

    def checked(self, wanted: Digest) -> Iterator[memoryview]:
        """Yield as :meth:`segments` does, and do step 9 before the last chunk: who has all of it has the right bytes.

        :raises PlaintextMismatchError: step 9.
        """
        hasher = hashlib.sha256()
        for position, chunk in enumerate(self.segments()):
            hasher.update(chunk)
            if position == self.geometry.segments - 1:
                self._check_digest(hasher.digest(), wanted)
            yield chunk

    def read_all(self, buffer: memoryview, wanted: Digest) -> None:
        """Fill ``buffer``, which has exactly :attr:`plain_size` bytes, and do step 9; wiped on any failure.

        :raises UsageError: a buffer of another size.
        :raises PlaintextMismatchError: step 9.
        """
        if len(buffer) != self.plain_size:
            raise UsageError(f"the buffer has {len(buffer)} bytes, the file {self.plain_size}")
        self.read_into(0, buffer)
        try:
            self._check_digest(hashlib.sha256(buffer).digest(), wanted)
        except PlaintextMismatchError:
            wipe(buffer)
            raise

    def _check_digest(self, found: bytes, wanted: Digest) -> None:
        if not Digest(DigestAlgorithm.SHA256, found).matches(wanted):
            self._failed = PlaintextMismatchError(
                "authentic, but not what the publisher sealed: another holder of the data key made it",
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
