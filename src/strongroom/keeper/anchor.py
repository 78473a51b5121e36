"""Serves SL2-WST-02: pins that don't go back with the disk. A few bytes in this machine's TPM say which are the newest.

The pins stand in a file and change every second; a TPM's memory bears some 100,000 writes. So the TPM holds the number
and the digest of an *anchored* set of pins, which stands in a file of its own: at once after a control act, but not
more often than every 10 seconds; when the keeper stops; and otherwise every hour. A disk that is put back to before the
last anchor is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.signature import Signer
from strongroom.keeper.pins import Pins, PinStore, RolledBackError, pins_go_back

ACT_SECONDS: Final = 10.0
"""At least so far apart after control acts."""
QUIET_SECONDS: Final = 3600.0
"""At most so far apart while only releases happen: as much of them could be rolled back unseen."""
REGISTER_BYTES: Final = 8 + 32
_CONTEXT: Final = b"strongroom pin anchor v1\0"
# The indices that belong to the owner of the TPM (TCG Registry of Reserved TPM 2.0 Handles).
_FORM: Final = re.compile(
    r"tpm2:(?P<address>(?:device|unix):/[A-Za-z0-9._/@+-]{1,256})\?nv=0x(?P<index>01[89ab][0-9a-f]{5})"
)
_BACK: Final = "the disk was put back: treat this as an incident, or restore from a backup"
_RENEW: Final = "if this TPM was cleared or replaced, and the log is whole: strongroom pin-anchor renew"


class AnchorUriError(UsageError):
    """The URI names no place in a TPM."""

    code = "anchor-uri"


@dataclass(frozen=True, slots=True)
class AnchorUri:
    """Where the anchor is: a TPM, and an index in it."""

    text: str
    address: str
    index: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``tpm2:device:/dev/tpmrm0?nv=0x018f0000``.

        :raises AnchorUriError: another form, or an index that isn't the owner's.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise AnchorUriError(
                "an anchor's URI of another form", remedy="like `tpm2:device:/dev/tpmrm0?nv=0x018f0000`"
            )
        return cls(text, found["address"], int(found["index"], 16))

    @property
    def path(self) -> str:
        """The device or socket."""
        return self.address.partition(":")[2]

    def __str__(self) -> str:
        return self.text


class AnchorMismatchError(RolledBackError):
    """What is on the disk isn't what the TPM says was there last."""

    code = "anchor-mismatch"


class AnchorRefusedError(UnavailableError):
    """The TPM refused. Without it nobody can tell whether the disk was put back."""

    code = "anchor-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """One anchored set of pins; ``number`` counts them from 1."""

    number: int
    pins: Pins

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=8192), "anchored pins") as fields:
            fields.constant("v", 1)
            return cls(
                number=fields.integer("number", least=1, most=2**53 - 1), pins=Pins.parse(encode(fields.value("pins")))
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"v": 1, "number": self.number, "pins": decode(self.pins.to_bytes())})

    def register(self) -> bytes:
        """Return what the TPM holds of it: its number (8 bytes), and the SHA-256 of its bytes."""
        return self.number.to_bytes(8, "big") + Digest.of(self.to_bytes()).value


class Register(Protocol):
    """The bytes in the TPM."""

    def defined(self) -> bool:
        """Tell whether there is a place for them.

        :raises UnavailableError: the TPM can't be reached.
        """
        ...

    def define(self, secret: bytes) -> None:
        """Make the place; ``secret`` writes and reads it from then on.

        :raises UnavailableError: the TPM refuses.
        """
        ...

    def read(self, secret: bytes) -> bytes | None:
        """Return the bytes, or None before the first write.

        :raises UnavailableError: the TPM refuses, or the place was made with another secret.
        """
        ...

    def write(self, data: bytes, secret: bytes) -> None:
        """Replace the bytes in one step.

        :raises UnavailableError: the TPM refuses.
        """
        ...


class AnchorFiles(Protocol):
    """The anchored sets: the one that holds, and the next one, of which it isn't known whether it does."""

    def load(self) -> tuple[bytes | None, bytes | None]:
        """Return the one that holds, and the next one, as far as they are there."""
        ...

    def save_next(self, data: bytes) -> None:
        """Make the next one durable beside the one that holds.

        :raises UnavailableError: it couldn't be written.
        """
        ...

    def settle(self) -> None:
        """Let the next one be the one that holds.

        :raises UnavailableError: it couldn't be renamed.
        """
        ...


def anchor_secret(signer: Signer, genesis: Digest) -> bytes:
    """Return the 32 bytes that write and read the anchor: only who can sign as this keeper knows them.

    Ed25519's signatures are deterministic (RFC 8032, section 5.1.6), and this one is shown to nobody.
    """
    # The TPM takes zeros at the end for nothing.
    return Digest.of(signer.sign(_CONTEXT + genesis.value)).value.rstrip(b"\0") or b"\1"


class AnchoredPins:
    """A pin store that the TPM vouches for."""

    def __init__(
        self,
        pins: PinStore,
        files: AnchorFiles,
        register: Register,
        *,
        secret: bytes,
        uptime: Callable[[], float],
    ) -> None:
        self._pins = pins
        self._files = files
        self._register = register
        self._secret = secret
        self._uptime = uptime
        self._number = 0
        self._anchored_at = uptime()
        self._wait = QUIET_SECONDS

    def load(self) -> Pins | None:
        """Return the pins, once they are found no older than what the TPM says.

        :raises AnchorMismatchError: the disk was put back; or the TPM isn't the one from before.
        :raises UnavailableError: the TPM can't be reached: nobody can tell whether the disk was put back.
        """
        pins, known = self._pins.load(), self._files.load()
        if not self._register.defined():
            if any(known):
                raise AnchorMismatchError("the TPM knows nothing of this deployment's pins", remedy=_RENEW)
            self._register.define(self._secret)
        self._check(pins, known, self._register.read(self._secret))
        return pins

    def save(self, pins: Pins) -> None:
        """Make pins durable, and anchor them where it is time.

        :raises UnavailableError: they couldn't be written, or the TPM refuses.
        """
        self._pins.save(pins)
        waited = self._uptime() - self._anchored_at
        if self._number and waited < self._wait:
            return
        anchored = Anchored(number=self._number + 1, pins=pins)
        # Lost power before the write leaves the old set holding, and after it the next one: `load` finds either.
        self._files.save_next(anchored.to_bytes())
        self._register.write(anchored.register(), self._secret)
        self._files.settle()
        self._number, self._anchored_at, self._wait = anchored.number, self._uptime(), QUIET_SECONDS

    def hasten(self, seconds: float) -> None:
        """Have the next pins anchored that are saved ``seconds`` after the last anchor, or later."""
        self._wait = min(self._wait, seconds)

    def _check(self, pins: Pins | None, known: tuple[bytes | None, bytes | None], register: bytes | None) -> None:
        settled, following = known
        if register is None:
            # Defined and never written: the very first start, or a loss of power within it.
            if settled is not None:
                raise AnchorMismatchError("the TPM's anchor is empty, and pins were anchored before", remedy=_RENEW)
            return
        for data in (settled, following):
            anchored = None if data is None else Anchored.parse(data)
            if anchored is None or anchored.register() != register:
                continue
            if pins is None or pins_go_back(anchored.pins, pins):
                raise AnchorMismatchError(
                    "the keeper's pins are older than those that the TPM vouches for", remedy=_BACK
                )
            self._number = anchored.number
            if data is following:
                # Power was lost between the TPM's write and the file's new name.
                self._files.settle()
            return
        number = int.from_bytes(register[:8], "big")
        raise AnchorMismatchError(f"the TPM vouches for anchored pins number {number}, which aren't here", remedy=_BACK)
