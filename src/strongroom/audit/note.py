"""C2SP signed notes (c2sp.org/signed-note, v1.0.0): text, an empty line, signature lines. Ed25519 (type 0x01) only."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.audit.errors import NoteError
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.signature import PublicKey, SignatureAlgorithm, SignatureError, Signer

ED25519_TYPE: Final = b"\x01"
MAX_SIGNATURES: Final = 64
MAX_BYTES: Final = 1 << 18
"""Room for 64 post-quantum cosignatures; the specification asks for 16 signatures at least."""

_DASH: Final = "\N{EM DASH} "


def check_key_name(name: str) -> str:
    """Return a key name that the specification allows: not empty, no Unicode space, no plus, no control character.

    :raises MalformedError: any other name.
    """
    unfit = any(c.isspace() or ord(c) < 32 or ord(c) == 127 or "\ud800" <= c <= "\udfff" for c in name)
    if not name or "+" in name or unfit:
        raise MalformedError("a note's key name is not empty and holds no space, plus or control character")
    return name


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named verification key, written ``name+<key id in hex>+<base64 of 0x01 and the public key>``."""

    name: str
    public_key: PublicKey

    def __post_init__(self) -> None:
        check_key_name(self.name)

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart. Short on purpose: an identifier, not a security check."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519_TYPE + self.public_key.raw).digest()[:4]

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read the text form.

        :raises MalformedError: another form, another signature type, or a key id that isn't the key's.
        """
        name, _, rest = text.partition("+")
        hexed, _, encoded = rest.partition("+")
        if not re.fullmatch(r"[0-9a-f]{8}", hexed):
            raise MalformedError("a verifier key is written `name+<8 hex digits>+<base64>`")
        raw = from_base64(encoded)
        if raw[:1] != ED25519_TYPE:
            raise MalformedError("only Ed25519 verifier keys (type 0x01) are read")
        public = PublicKey.parse(f"{SignatureAlgorithm.ED25519}:{to_base64(raw[1:])}")
        key = cls(name, public)
        if key.key_id.hex() != hexed:
            raise MalformedError("the verifier key's id isn't the one that its name and key have")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{to_base64(ED25519_TYPE + self.public_key.raw)}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, not yet verified."""

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        """Return the line, with its newline."""
        return f"{_DASH}{self.name} {to_base64(self.key_id + self.value)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note. Parsing proves nothing: call :meth:`verify` before reading the text."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Read a note.

        :raises MalformedError: not UTF-8, a control character, no signature lines, a wrong line, or too large.
        """
        if len(data) > MAX_BYTES:
            raise MalformedError(f"a note has at most {MAX_BYTES} bytes")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedError("a note is UTF-8 text") from None
        if any(ord(c) < 32 and c != "\n" for c in whole):
            raise MalformedError("a note holds no control character but newline")
        cut = whole.rfind("\n\n")
        if cut < 0 or not whole.endswith("\n"):
            raise MalformedError("a note is text, an empty line, and lines of signatures")
        return cls(whole[: cut + 1], read_signature_lines(whole[cut + 2 :]))

    def verify(self, key: VerifierKey) -> None:
        """Check that ``key`` signed this text; lines by other keys are ignored.

        :raises NoteError: no line names the key (reason `note-key-absent`), or one does and doesn't verify.
        """
        mine = [s for s in self.signatures if s.name == key.name and s.key_id == key.key_id]
        if not mine:
            raise NoteError(f"the note has no signature by key `{_shown(key)}`", reason="note-key-absent")
        for signature in mine:
            try:
                key.public_key.verify(signature.value, self.text.encode())
            except SignatureError:
                raise NoteError(f"the note's signature by `{_shown(key)}` doesn't verify") from None

    def to_bytes(self) -> bytes:
        """Return the note's bytes."""
        return f"{self.text}\n{''.join(signature.line() for signature in self.signatures)}".encode()

    def signed_also(self, signatures: Iterable[NoteSignature]) -> Note:
        """Return this note with more signatures; a line by a key that signed before takes the older line's place."""
        lines = {(signature.name, signature.key_id): signature for signature in (*self.signatures, *signatures)}
        return Note(self.text, tuple(lines.values()))


def _shown(key: VerifierKey) -> str:
    return f"{key.name}+{key.key_id.hex()}"


def read_signature_lines(text: str) -> tuple[NoteSignature, ...]:
    """Read 1 to 64 signature lines, each with its newline: the end of a note, or what a witness answers.

    :raises MalformedError: another form.
    """
    lines = text.split("\n")
    if lines.pop() or not 0 < len(lines) <= MAX_SIGNATURES:
        raise MalformedError(f"a note has 1 to {MAX_SIGNATURES} lines of signatures")
    return tuple(_signature(line) for line in lines)


def _signature(line: str) -> NoteSignature:
    name, gap, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not gap:
        raise MalformedError("a signature line is a dash, a key name and base64 text")
    value = from_base64(encoded)
    if len(value) < 5:
        raise MalformedError("a note's signature has four bytes of key id and the signature itself")
    return NoteSignature(check_key_name(name), value[:4], value[4:])


def sign_note(text: str, *, name: str, signer: Signer) -> Note:
    """Sign ``text``, which must end in a newline, under the key name ``name``.

    :raises MalformedError: no final newline, or a control character.
    """
    if not text.endswith("\n") or any(ord(c) < 32 and c != "\n" for c in text):
        raise MalformedError("a note's text ends in a newline and holds no other control character")
    key = VerifierKey(name, signer.public_key)
    return Note(text, (NoteSignature(name, key.key_id, signer.sign(text.encode())),))
