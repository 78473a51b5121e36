"""Having delivered files read behind walls: the gate hands out the bytes that its reader asks for, and takes answers.

Judging and converting run hostile bytes through a thousand lines of parsers. That is done in a process of its own which
has no key, no file, no network and no more memory than it needs; the gate itself parses only its answers. A reader that
was taken over can lie about the files that it was shown, and do nothing else.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.printable import printable
from strongroom.core.safetensors_header import MAX_HEADER
from strongroom.enclave.sandbox import SandboxError
from strongroom.intake.formats.conversion import MOST_TIMES
from strongroom.intake.formats.identify import FileVerdict, Format
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import Source
from strongroom.quarantine.adapters.channel import (
    CHUNK,
    FROM_READER,
    MAX_ANSWER,
    MAX_TEXT,
    READ,
    Frame,
    Stream,
    receive,
    send,
)
from strongroom.quarantine.adapters.walled import ENTERED, start_walled

INSIDE: Final = ("-m", "strongroom.quarantine.adapters.read_inside")
_MEMORY: Final = 1 << 30
"""Bytes of address space for the reader, besides three times the largest file: a transposed tensor is cut whole."""
_SECONDS: Final = 600
_LEAST_PACE: Final = 1 << 20
"""Bytes in a second: what is slower than that isn't reading any more."""
_NOT_ITS_TO_SAY: Final = frozenset(
    {
        Rule.SIGNATURE_FORM,
        Rule.SIGNATURE_BAD,
        Rule.SIGNATURE_SIGNER,
        Rule.MISSING_FILE,
        Rule.EXTRA_FILE,
        Rule.DIGEST_MISMATCH,
        Rule.ATTACHMENT_FORM,
        Rule.SCANNER,
        Rule.REVIEW_DENIED,
        Rule.WITHDRAWN,
    }
)
"""Rules about other things than a file's bytes: a signed verdict would put a lie on the supplier, or on a reviewer."""


class ReaderError(UnavailableError):
    """The walled reader ended without an answer, or gave one that can't be. Nothing was let in."""

    code = "intake-reader"


class Reader:
    """A walled process that reads ``sources``. One thing is asked of it at a time."""

    def __init__(self, channel: Stream, sources: Mapping[str, Source]) -> None:
        self._channel = channel
        self._sources = sources
        self._listed = [*sources]
        self._busy = False

    def judge(self) -> dict[str, FileVerdict]:
        """Judge every file: :func:`strongroom.intake.formats.identify.check_delivery`.

        :raises IntakeRefusedError: the first file that isn't let in. :raises ReaderError: no answer.
        """
        with self._answer("judge") as fields:
            return {name: _verdict(fields, name) for name in self._listed}

    def convert(self, name: str) -> int:
        """Read a checkpoint; returns how many bytes it has as safetensors.

        :raises IntakeRefusedError: it can't be converted. :raises ReaderError: no answer.
        """
        return self._made("convert", name)

    def convert_index(self, name: str) -> int:
        """Read the index of a checkpoint in shards; returns how many bytes it has for the converted ones.

        :raises IntakeRefusedError: it isn't one. :raises ReaderError: no answer.
        """
        return self._made("convert-index", name)

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """Yield the ``size`` bytes of what was converted; the last piece comes once there are no more and no fewer.

        :raises ReaderError: another number of bytes, or no answer.
        """
        left, held = size, b""
        for kind, data in self._asked("pieces", name):
            left -= len(data) if kind is Frame.PIECE else 0
            if left < 0 or (kind is Frame.ANSWER and left):
                raise _unread()
            if held:
                yield held
            held = data if kind is Frame.PIECE else b""

    def _made(self, do: str, name: str) -> int:
        most = MOST_TIMES * self._sources[name].size + MAX_HEADER
        with self._answer(do, name) as fields:
            return fields.integer("size", most=most)

    @contextmanager
    def _answer(self, do: str, name: str = "") -> Iterator[Fields]:
        kind, data = next(self._asked(do, name))
        try:
            if kind is not Frame.ANSWER:
                raise _unread()
            with Fields(decode(data, max_bytes=MAX_ANSWER), "answer") as fields:
                yield fields
        except MalformedError:
            raise _unread() from None

    def _asked(self, do: str, name: str) -> Iterator[tuple[Frame, bytes]]:
        """Ask, and yield what comes back while the reader's own questions are answered."""
        # What wasn't read to its end would be taken for the answer to this.
        if self._busy:
            raise _unread()
        self._busy = True
        self._say(Frame.ASK, encode({"do": do, "name": name}))
        while True:
            kind, data = self._heard()
            if kind is Frame.READ:
                # Read outside of what is taken for the reader's end: an error of the gate's own disk is told as that.
                self._say(Frame.DATA, self._bytes(data))
                continue
            self._busy = kind is Frame.PIECE
            if kind is Frame.REFUSED:
                raise _refusal(data)
            yield kind, data
            if kind is Frame.ANSWER:
                return

    def _say(self, kind: Frame, data: bytes) -> None:
        try:
            send(self._channel, kind, data)
        except OSError:
            raise _unread() from None

    def _heard(self) -> tuple[Frame, bytes]:
        try:
            return receive(self._channel, FROM_READER)
        except (EOFError, OSError, ValueError):
            raise _unread() from None

    def _bytes(self, wanted: bytes) -> bytes:
        if len(wanted) != READ.size:
            raise _unread()
        number, offset, length = READ.unpack(wanted)
        source = self._sources[self._listed[number]] if number < len(self._listed) else None
        if source is None or length > CHUNK or offset + length > source.size:
            raise _unread()
        return source.read(offset, length)


@contextmanager
def walled_reader(sources: Mapping[str, Source]) -> Iterator[Reader]:
    """Start a reader of ``sources``, and end it.

    :raises SandboxError: the walls can't be put up here; nothing was read. :raises ReaderError: it ended at once.
    """
    largest, total = max(one.size for one in sources.values()), sum(one.size for one in sources.values())
    ours, theirs = socket.socketpair()
    report, end = os.pipe2(os.O_CLOEXEC)
    with ours:
        try:
            process = start_walled(
                INSIDE,
                file=theirs.fileno(),
                report=end,
                memory=_MEMORY + 3 * largest,
                seconds=_SECONDS + total // _LEAST_PACE,
            )
        except BaseException:
            os.close(report)
            raise
        finally:
            theirs.close()
            os.close(end)
        try:
            try:
                _require_walls(report)
            finally:
                os.close(report)
            listed: Json = [{"name": name, "size": one.size} for name, one in sources.items()]
            try:
                send(ours, Frame.ASK, encode({"files": listed}))
            except OSError:
                raise _unread() from None
            yield Reader(ours, sources)
        finally:
            # With it dies what stands behind the walls.
            process.kill()
            process.wait()


def judge_walled(sources: Mapping[str, Source]) -> dict[str, FileVerdict]:
    """Judge every file of a delivery behind walls.

    :raises IntakeRefusedError: the first file that isn't let in.
    :raises SandboxError: the walls can't be put up here. :raises ReaderError: no answer.
    """
    with walled_reader(sources) as reader:
        return reader.judge()


def _require_walls(report: int) -> None:
    said = os.read(report, 4096)
    if said != ENTERED:
        raise SandboxError(said.decode(errors="replace") or "the reader's process ended before its walls stood")


def _verdict(fields: Fields, name: str) -> FileVerdict:
    with fields.child(name) as one:
        return FileVerdict(one.parsed("format", Format), one.value("facts"))


def _refusal(data: bytes) -> IntakeRefusedError | ReaderError:
    try:
        with Fields(decode(data), "refusal") as fields:
            rule = fields.parsed("rule", Rule)
            message, remedy = (printable(fields.text(one, max_length=MAX_TEXT)) for one in ("message", "remedy"))
    except MalformedError:
        return _unread()
    if rule in _NOT_ITS_TO_SAY:
        return _unread()
    return IntakeRefusedError(rule, message, remedy=remedy)


def _unread() -> ReaderError:
    return ReaderError(
        "the process that reads the delivered files ended without a good answer; nothing was let in",
        remedy="try again; if it doesn't help, something in them breaks the reader: strongroom intake discard",
    )
