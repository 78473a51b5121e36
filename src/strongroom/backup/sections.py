"""A section's encryption: FLOE segments (docs/spec/sealed-weights.md) under a fresh key, encrypted to each recipient.

Bounded memory: one segment at a time. The key commits to the whole header but the stanzas; the final segment proves
that nothing was cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from strongroom.backup.contents import Section
from strongroom.backup.errors import BackupDamagedError
from strongroom.backup.header import BackupHeader, SectionHeader, Stanza
from strongroom.core.digest import Digest
from strongroom.core.secret import SecretBytes
from strongroom.keys.recipient import RecipientIdentity, encrypt_to
from strongroom.keys.wrapping import RandomBytes
from strongroom.sealing.errors import SealedObjectError
from strongroom.sealing.floe import HEADER_LENGTH, IV_LENGTH, NONCE_LENGTH, OVERHEAD, Floe, FloeParameters

PARAMETERS: Final = FloeParameters(1 << 20)
STEP: Final = PARAMETERS.plaintext_length
_DAMAGED: Final = "take another copy of this backup, or another backup; this one proves nothing"

ReadExactly = Callable[[int], bytes]
"""Returns the next bytes of the file, exactly so many; or fewer at its end."""


def stanza_for(header: BackupHeader, section: Section, public: bytes, key: SecretBytes) -> Stanza:
    """Encrypt a section's key to a recipient's 1,216-byte public key.

    :raises MalformedError: the public key isn't one.
    """
    return Stanza(recipient=Digest.of(public), ciphertext=encrypt_to(public, key, header.binding(section)))


def section_key(header: BackupHeader, section: Section, identity: RecipientIdentity) -> SecretBytes | None:
    """Open a section's key; None when the section isn't encrypted to this identity, or isn't there.

    :raises DeliveryError: the stanza or the header was changed.
    """
    found = header.section(section)
    for stanza in found.stanzas if found else ():
        if stanza.recipient.matches(identity.digest):
            return identity.open(stanza.ciphertext, header.binding(section))
    return None


def ciphertext_length(section: SectionHeader) -> int:
    """Return the bytes that a section takes in the file."""
    return HEADER_LENGTH + section.plaintext_size + OVERHEAD * _segments(section.plaintext_size)


def encrypted(
    chunks: Iterable[bytes], *, size: int, key: SecretBytes, binding: bytes, random_bytes: RandomBytes
) -> Iterator[bytes]:
    """Encrypt exactly ``size`` bytes, a segment at a time.

    :raises BackupDamagedError: there were more or fewer bytes than was said.
    """
    floe, opening = Floe.begin(key, binding, random_bytes(IV_LENGTH), PARAMETERS)
    yield opening
    pending, taken, last = _Pending(chunks), 0, _segments(size) - 1
    for position in range(last + 1):
        wanted = min(STEP, size - taken)
        plain = pending.take(wanted)
        taken += len(plain)
        if len(plain) != wanted:
            break
        out = bytearray(len(plain) + OVERHEAD)
        floe.encrypt_segment(
            memoryview(out),
            memoryview(plain),
            position=position,
            nonce=random_bytes(NONCE_LENGTH),
            final=position == last,
        )
        yield bytes(out)
    floe.wipe()
    if taken != size or pending.take(1):
        raise BackupDamagedError("a part changed its size while it was read")


def decrypted(read: ReadExactly, *, size: int, key: SecretBytes, binding: bytes) -> Iterator[bytes]:
    """Decrypt a section of ``size`` bytes, a segment at a time; ``read`` gives the file's next bytes.

    What was yielded is authentic at its place; that it is all of it is known only once this ends without an error.

    :raises BackupDamagedError: cut short, changed, or of another backup.
    """
    try:
        floe = Floe.resume(key, binding, read(HEADER_LENGTH), PARAMETERS)
        last = _segments(size) - 1
        for position in range(last + 1):
            segment = read(min(STEP, size - position * STEP) + OVERHEAD)
            if len(segment) != min(STEP, size - position * STEP) + OVERHEAD:
                raise BackupDamagedError("the backup ends before its last part does", remedy=_DAMAGED)
            out = bytearray(len(segment) - OVERHEAD)
            floe.decrypt_segment(memoryview(out), memoryview(segment), position=position, final=position == last)
            yield bytes(out)
        floe.wipe()
    except SealedObjectError as error:
        raise BackupDamagedError(f"the backup was changed: {error.message}", remedy=_DAMAGED) from None


def _segments(size: int) -> int:
    return max(1, -(-size // STEP))


class _Pending:
    """Chunks of any length, taken out in pieces of a wanted length."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()

    def take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._buffer += chunk
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
