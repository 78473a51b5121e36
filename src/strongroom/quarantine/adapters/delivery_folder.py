"""A delivery's folder: its terms, records, documents and verdict in clear, and beside them the encrypted copy.

Nothing in it is believed for lying there: records are signed by the operator and name each other, the newest stands in
the log, documents are compared with their digests, the copy has its key and its signature.
Every file is replaced whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError, MalformedError, NotFoundError, TamperedError
from strongroom.intake.states import MAX_RECORD
from strongroom.intake.verdict import MAX_VERDICT
from strongroom.quarantine.terms import MAX_TERMS, Terms
from strongroom.sealing.adapters.publish import partial_of

TERMS: Final = "terms.json"
VERDICT: Final = "verdict.json"
SEALED: Final = "sealed"
MAX_DOCUMENT: Final = 64 << 20
_NEXT: Final = "next.json"
_RECORDS: Final = "records"
_DOCUMENTS: Final = "documents"
_COPY: Final = "copy"
_MOST_RECORDS: Final = 8
_MAX_SIGNED: Final = 4 * MAX_RECORD
_BEFORE: Final = frozenset({_DOCUMENTS, f".{TERMS}.new"})
"""What may lie in the folder before the terms: the documents that they name, and what a crash left of them."""


class DeliveryFolder:
    """One delivery's folder. Whoever writes to it holds it by :func:`delivery_folder`."""

    def __init__(self, path: Path, *, most_document: int = MAX_DOCUMENT) -> None:
        self.path = path
        self._most_document = most_document

    @property
    def copy(self) -> Path:
        """Where the encrypted copy lies."""
        return self.path / _COPY

    @property
    def sealed(self) -> Path:
        """Where the model's next version is sealed to."""
        return self.path / SEALED

    @property
    def begun(self) -> bool:
        """Whether terms were fixed."""
        return (self.path / TERMS).exists()

    def terms(self) -> Terms:
        """Return the terms.

        :raises NotFoundError: it isn't a delivery's folder.
        :raises MalformedError: they aren't terms.
        """
        return Terms.parse(self._read(TERMS, most=MAX_TERMS))

    def fix(self, terms: Terms) -> None:
        """Make the terms durable."""
        write_durably(self.path / TERMS, terms.to_bytes())

    def records(self) -> tuple[Envelope, ...]:
        """Return the signed records, as they lie there.

        :raises MalformedError: one isn't an envelope.
        """
        found = []
        for number in range(_MOST_RECORDS):
            try:
                found.append(Envelope.parse(self._read(_record(number), most=_MAX_SIGNED)))
            except NotFoundError:
                break
        return tuple(found)

    def proposed(self) -> Envelope | None:
        """Return the signed record that was handed in, and perhaps recorded, before an interruption."""
        try:
            return Envelope.parse(self._read(_NEXT, most=_MAX_SIGNED))
        except NotFoundError:
            return None

    def propose(self, envelope: Envelope) -> None:
        """Make a signed record durable before it is handed in: once it stands in the log, it must be here."""
        write_durably(self.path / _NEXT, envelope.to_bytes())

    def withdraw(self) -> None:
        """Remove a record that was refused."""
        (self.path / _NEXT).unlink(missing_ok=True)

    def accept(self, envelope: Envelope) -> None:
        """Take in a signed record that stands in the log."""
        (self.path / _RECORDS).mkdir(mode=0o700, exist_ok=True)
        before = self.records()
        if envelope.payload not in {one.payload for one in before}:
            write_durably(self.path / _record(len(before)), envelope.to_bytes())
        self.withdraw()

    def keep(self, document: bytes) -> Digest:
        """Keep a document by its digest."""
        digest = Digest.of(document)
        (self.path / _DOCUMENTS).mkdir(mode=0o700, exist_ok=True)
        write_durably(self.document_path(digest), document)
        return digest

    def document_path(self, digest: Digest) -> Path:
        """Return where a document lies."""
        return self.path / _DOCUMENTS / digest.value.hex()

    def document(self, digest: Digest) -> bytes:
        """Return a document.

        :raises NotFoundError: it isn't there. :raises MalformedError: it is longer than this reader takes.
        :raises TamperedError: it is another one.
        """
        found = self._read(f"{_DOCUMENTS}/{digest.value.hex()}", most=self._most_document)
        if not Digest.of(found).matches(digest):
            raise TamperedError(f"the document {digest} was changed", reason="intake-document")
        return found

    def verdict(self) -> Envelope | None:
        """Return the signed verdict, as it lies there; None before there is one.

        :raises MalformedError: it isn't an envelope.
        """
        try:
            return Envelope.parse(self._read(VERDICT, most=2 * MAX_VERDICT))
        except NotFoundError:
            return None

    def judge(self, verdict: Envelope) -> None:
        """Make the signed verdict durable."""
        write_durably(self.path / VERDICT, verdict.to_bytes())

    def drop_copy(self) -> None:
        """Remove the encrypted copy. Its key is gone before: this makes room, nothing more."""
        self._remove(self.copy)

    def drop_sealed(self) -> None:
        """Remove what was sealed of a delivery that was given up after all, so never registered."""
        self._remove(self.sealed)

    def _remove(self, place: Path) -> None:
        for one in (place, partial_of(place)):
            shutil.rmtree(one, ignore_errors=True)
        sync_folder(self.path)

    def _read(self, name: str, *, most: int) -> bytes:
        try:
            handle = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no `{name}` in `{self.path}`", remedy="name the folder of a delivery: strongroom intake ls"
            ) from None
        except OSError:
            raise self._no_file(name) from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise self._no_file(name)
            with os.fdopen(handle, "rb", closefd=False) as file:
                found = file.read(most + 1)
        finally:
            os.close(handle)
        if len(found) > most:
            raise MalformedError(f"`{name}` in `{self.path}` has more than {most} bytes")
        return found

    def _no_file(self, name: str) -> TamperedError:
        return TamperedError(f"`{name}` in `{self.path}` isn't a file that can be read", reason="intake-document")


def _record(number: int) -> str:
    return f"{_RECORDS}/{number}.json"


@contextmanager
def delivery_folder(path: Path) -> Iterator[DeliveryFolder]:
    """Hold a delivery's folder against other processes; it is made, for this user alone, if it isn't there.

    :raises ConflictError: another process works on it, or something else lies there.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _hold(handle, path)
        found = os.fstat(handle)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            # Until the first record stands in the log, whoever writes here says what the terms are.
            raise ConflictError(f"others can write to `{path}`", remedy="choose a folder of your own")
        folder = DeliveryFolder(path)
        if not folder.begun and any(one.name not in _BEFORE for one in path.iterdir()):
            raise ConflictError(f"something else lies in `{path}`", remedy="choose a new folder")
        yield folder
    finally:
        os.close(handle)


def _hold(handle: int, path: Path) -> None:
    try:
        # The kernel drops this lock if the process dies.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError(
            f"another process works on the delivery in `{path}`", remedy="wait for it", reason="intake-busy"
        ) from None
