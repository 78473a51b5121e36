"""Verify a transparency log offline: one file, Python 3.11 and the `cryptography` package, nothing else.

Made for a stranger: copy it away, read it from top to bottom, run it on a log's published folder.

    python standalone_verifier.py LOG_FOLDER --key FILE [--keeper KEY] [--policy FILE] [--previous CHECKPOINT]...
                                  [--jobs N] [--json]

`--key` holds the log's verifier key, one line, got from somewhere else than the log. `--policy` is a C2SP tlog-policy
file: which witnesses must have cosigned. `--previous` is a checkpoint of this log that you kept from an earlier day.

What it proves when it says `ok`: the checkpoint is signed by the log's key and cosigned as the policy asks; every entry
below its size is there; each hash tile is what the entries hash to; the entries hash to the signed root; and the log
continues every checkpoint that you kept. It reads no entry's meaning but this one's: an entry that closes the log names
the key of the shard that goes on with it, in the folder `shards/2`, and so on; that is verified too. `--keeper` is the
key that must have signed these entries, `ed25519:` and base64; no other signature inside an entry is looked at.

It proves nothing about entries after the checkpoint, and without `--policy` or `--previous` the holder of the log's key
could show you another log than everybody else.

Ends with 0 ok, 2 wrong call, 6 not what was signed or not cosigned as the policy asks; with a code, and the first index
that diverges where that can be told. Formats: c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature,
tlog-policy, tlog-tiles; hashes: RFC 6962, section 2.1. It shares no code with what wrote the log, on purpose.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import io
import json
import multiprocessing
import re
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

OK, USAGE, DIVERGES = 0, 2, 6
ED25519, ED25519_COSIGNATURE, ML_DSA_44_COSIGNATURE = 1, 4, 6  # signature types of c2sp.org/signed-note
KEY_BYTES = {ED25519: 32, ED25519_COSIGNATURE: 32, ML_DSA_44_COSIGNATURE: 1312}
SIGNATURE_BYTES = {ED25519: 64, ED25519_COSIGNATURE: 8 + 64, ML_DSA_44_COSIGNATURE: 8 + 2420}
WIDTH = 256  # hashes in a tile, entries in a bundle
MAX_NOTE = 1 << 18
MAX_SIGNATURES = 64
CLOCK_SKEW = 60  # seconds that a witness's clock may be ahead of ours
MAX_BUNDLE = WIDTH * (2 + 65_535)
SPAN = 64  # bundles that one worker checks at a time
LARGE = SPAN * WIDTH  # entries of a log that is worth a second process
DASH = "\N{EM DASH} "


class Refused(Exception):  # noqa: N818 - it is what was found, not a fault of the program
    """The log, or something beside it, isn't what it should be. ``index`` is the first entry that diverges."""

    def __init__(self, code: str, message: str, *, index: int | None = None, ends: int = DIVERGES) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.index = index
        self.ends = ends


# --- Keys, notes and checkpoints --------------------------------------------------------------------------------------


def decode(text: str) -> bytes:
    """Decode base64 in its one spelling: two spellings of one signature would be two notes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("malformed", "what should be base64 isn't") from None
    if base64.b64encode(data).decode() != text:
        raise Refused("malformed", "base64 text has another spelling than the usual one")
    return data


def fit_name(name: str) -> bool:
    """Whether a key may be named so: text without space, plus or control character."""
    unfit = any(c == "+" or c.isspace() or c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in name)
    return bool(name) and not unfit


@dataclass(frozen=True)
class Checkpoint:
    """What a log says of itself: so many entries, with this root. ``body`` is the text that was signed."""

    origin: str
    size: int
    root: bytes
    body: str


@dataclass(frozen=True)
class Key:
    """A verifier key, written ``name+<key id>+<base64 of type and public key>``."""

    name: str
    kind: int
    public: bytes

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read a key; its id must be the one that name, type and public key have."""
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = decode(encoded)
        kind = raw[0] if raw else 0
        if not fit_name(name) or KEY_BYTES.get(kind) != len(raw) - 1:
            raise Refused("malformed", "a verifier key is `name+id+base64`, of type 1, 4 or 6", ends=USAGE)
        key = cls(name, kind, raw[1:])
        if key.key_id.hex() != key_id:
            raise Refused("malformed", f"the id of key `{name}` isn't the one that this key has", ends=USAGE)
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart; no security rests on them."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def verify(self, signature: bytes, body: str) -> int:
        """Check a signature or cosignature of a note's text; returns a cosignature's time, 0 where it states none.

        :raises ValueError: it doesn't verify.
        """
        if len(signature) != SIGNATURE_BYTES[self.kind]:
            raise ValueError("a signature of another length")
        try:
            if self.kind == ED25519:
                Ed25519PublicKey.from_public_bytes(self.public).verify(signature, body.encode())
                return 0
            at, signed = int.from_bytes(signature[:8], "big"), signature[8:]
            if self.kind == ED25519_COSIGNATURE:
                message = f"cosignature/v1\ntime {at}\n{body}".encode()
                Ed25519PublicKey.from_public_bytes(self.public).verify(signed, message)
            else:
                # Imported here: only who has such a key needs a `cryptography` that knows ML-DSA.
                from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey  # noqa: PLC0415

                message = self._subtree_message(at, read_checkpoint(body))
                MLDSA44PublicKey.from_public_bytes(self.public).verify(signed, message)
        except InvalidSignature:
            raise ValueError("the signature doesn't verify") from None
        return at

    def _subtree_message(self, at: int, checkpoint: Checkpoint) -> bytes:
        # `cosigned_message` of c2sp.org/tlog-cosignature; a checkpoint is the subtree from 0 to its size.
        cosigner, origin = self.name.encode(), checkpoint.origin.encode()
        if len(cosigner) > 255 or len(origin) > 255:
            raise ValueError("a name is too long for this kind of cosignature")
        names = bytes([len(cosigner)]) + cosigner + at.to_bytes(8, "big") + bytes([len(origin)]) + origin
        return b"subtree/v1\n\0" + names + bytes(8) + checkpoint.size.to_bytes(8, "big") + checkpoint.root


def read_note(data: bytes) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Take a note apart: its text, and (name, key id, signature) of each signature line. Proves nothing yet."""
    if len(data) > MAX_NOTE:
        raise Refused("malformed", f"a note has at most {MAX_NOTE} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("malformed", "a note is UTF-8 text") from None
    body, gap, lines = text.rpartition("\n\n")
    if not gap or not lines.endswith("\n") or re.search(r"[\x00-\x09\x0b-\x1f]", text):
        raise Refused("malformed", "a note is text, an empty line, and lines of signatures")
    signatures = []
    for line in lines[:-1].split("\n"):
        name, _, encoded = line.removeprefix(DASH).partition(" ")
        value = decode(encoded)
        if not line.startswith(DASH) or not fit_name(name) or len(value) < 5:
            raise Refused("malformed", "a signature line is a dash, a name and base64 text")
        signatures.append((name, value[:4], value[4:]))
    if len(signatures) > MAX_SIGNATURES:
        raise Refused("malformed", f"a note has at most {MAX_SIGNATURES} signatures")
    return body + "\n", signatures


def read_checkpoint(body: str) -> Checkpoint:
    """Read a note's text: origin, size and root, and no further line, for nobody could audit one."""
    lines = body.split("\n")
    if len(lines) != 4 or not lines[0] or lines[3] or not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]):
        raise Refused("malformed", "a checkpoint is three lines: origin, size and root")
    size, root = int(lines[1]), decode(lines[2])
    if len(root) != 32 or (size == 0 and root != hashlib.sha256(b"").digest()):
        raise Refused("malformed", "a checkpoint's root has 32 bytes, and that of an empty log is known")
    return Checkpoint(lines[0], size, root, body)


def verify_note(data: bytes, logs: list[Key], policy: Policy) -> tuple[Checkpoint, dict[str, int]]:
    """Check a signed checkpoint; returns it, and by witness name the times of its good cosignatures.

    Lines of unknown keys are ignored. A line of a known key that doesn't verify refuses the whole note.
    """
    body, lines = read_note(data)
    of_logs = {(key.name, key.key_id): key for key in logs}
    of_witnesses = {(key.name, key.key_id): name for name, key in policy.witnesses.items()}
    signed, times = False, dict[str, int]()
    for line_name, key_id, signature in lines:
        key, witness = of_logs.get((line_name, key_id)), of_witnesses.get((line_name, key_id))
        shown = f"`{line_name}+{key_id.hex()}`"
        try:
            if key is not None:
                key.verify(signature, body)
                # A log's key speaks for the log that it is named for, not for another of the same owner.
                signed = signed or key.name == body.partition("\n")[0]
            if witness is not None:
                at = policy.witnesses[witness].verify(signature, body)
                times[witness] = max(at, times.get(witness, at))
        except ValueError:
            code = "log-checkpoint-forged" if witness is None else "cosignature-forged"
            raise Refused(code, f"the signature by {shown} doesn't verify") from None
    if not signed:
        raise Refused("log-key-wrong", "the checkpoint isn't signed by this log's key, or is another log's")
    return read_checkpoint(body), times


# --- Policy -----------------------------------------------------------------------------------------------------------


@dataclass
class Policy:
    """Which logs and witnesses count, and how many of the witnesses are enough (c2sp.org/tlog-policy)."""

    logs: list[Key] = field(default_factory=list)
    witnesses: dict[str, Key] = field(default_factory=dict)
    groups: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    quorum: str = "none"

    @classmethod
    def parse(cls, data: bytes) -> Policy:
        """Read a policy file; names must be defined before they are used, so no group can hold itself."""
        if not re.fullmatch(rb"(?:[\t\x20-\x7e\x80-\xff]*\n)*", data):
            raise Refused("malformed", "a policy is lines without control characters", ends=USAGE)
        policy, quorums = cls(), 0
        for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
            words = [word for word in re.split(r"[ \t]+", line) if word]
            if not words or words[0].startswith("#"):
                continue
            match words:
                case ["log", key] | ["log", key, _]:
                    policy.logs.append(Key.parse(key))
                case ["witness", name, key] | ["witness", name, key, _] if policy.free(name):
                    policy.witnesses[name] = Key.parse(key)
                case ["group", name, count, *members] if policy.free(name) and policy.fits(count, members):
                    least = {"any": 1, "all": len(members)}.get(count)
                    policy.groups[name] = (int(count) if least is None else least, members)
                case ["quorum", name] if name == "none" or not policy.free(name):
                    policy.quorum, quorums = name, quorums + 1
                case _:
                    raise Refused("malformed", f"line {number} of the policy isn't one that it may have", ends=USAGE)
        if quorums != 1:
            raise Refused("malformed", "a policy has one quorum", ends=USAGE)
        policy.check()
        return policy

    def check(self) -> None:
        """Check that nobody is listed twice, and so counted twice, and that each key is of a kind for its part."""
        of_witnesses = [key.public for key in self.witnesses.values()]
        members = [member for _, listed in self.groups.values() for member in listed]
        for several in (of_witnesses, [key.public for key in self.logs], members):
            if len(set(several)) != len(several):
                raise Refused("malformed", "the policy lists a key or a member twice", ends=USAGE)
        witnesses_fit = all(key.kind != ED25519 for key in self.witnesses.values())
        if not witnesses_fit or any(key.kind == ED25519_COSIGNATURE for key in self.logs):
            raise Refused("malformed", "a log has a key of type 1 or 6, a witness one of type 4 or 6", ends=USAGE)

    def free(self, name: str) -> bool:
        """Whether a name may still be defined."""
        return name != "none" and name not in self.witnesses and name not in self.groups

    def fits(self, count: str, members: list[str]) -> bool:
        """Whether a group's members are defined and its count is one that they can reach."""
        known = bool(members) and not any(self.free(member) or member == "none" for member in members)
        return known and (
            count in {"any", "all"} or (bool(re.fullmatch("[1-9][0-9]*", count)) and int(count) <= len(members))
        )

    def met(self, cosigned: Iterable[str], name: str = "") -> bool:
        """Whether those who cosigned are enough."""
        wanted, cosigners = name or self.quorum, set(cosigned)
        if wanted in self.groups:
            least, members = self.groups[wanted]
            return sum(self.met(cosigners, member) for member in members) >= least
        return wanted == "none" or wanted in cosigners


# --- Hashes and tiles -------------------------------------------------------------------------------------------------


def fold(hashes: list[bytes]) -> bytes:
    """Return the root over a power of two of hashes: pairs, and pairs of pairs, up to one."""
    sha256 = hashlib.sha256
    while len(hashes) > 1:
        hashes = [
            sha256(b"\x01" + left + right).digest() for left, right in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    return hashes[0]


def peaks(hashes: list[bytes]) -> list[bytes]:
    """Return the roots of the largest complete subtrees over ``hashes``, from left to right."""
    found, at = [], 0
    for bit in reversed(range(len(hashes).bit_length())):
        if len(hashes) >> bit & 1:
            found.append(fold(hashes[at : at + (1 << bit)]))
            at += 1 << bit
    return found


def tree_root(bundles: list[bytes], rest: list[bytes]) -> bytes:
    """Return a log's root from the hashes of its full bundles and those of the entries behind them."""
    found = peaks(bundles) + peaks(rest)
    value = found.pop() if found else hashlib.sha256(b"").digest()
    while found:
        value = hashlib.sha256(b"\x01" + found.pop() + value).digest()
    return value


def place(kind: str, index: int, width: int = WIDTH) -> str:
    """Return the path of a tile (``kind`` is its level) or bundle (``entries``), below the log's folder."""
    digits = f"{index:03d}"
    digits = "0" * (-len(digits) % 3) + digits
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([*("x" + part for part in parts[:-1]), parts[-1]])
    return f"tile/{kind}/{name}" + (f".p/{width}" if width < WIDTH else "")


def read_file(folder: Path, path: str) -> bytes | None:
    """Return a file's bytes, at most what the largest bundle has; None where no ordinary file is."""
    try:
        if not (folder / path).is_file():  # a pipe in its place would make us wait for ever
            return None
        with (folder / path).open("rb") as file:
            return file.read(MAX_BUNDLE + 1)
    except OSError:
        return None


def read_wide(folder: Path, kind: str, index: int, width: int) -> tuple[bytes | None, int]:
    """Return a tile's bytes and the width that they must have; where a partial one is gone the full one serves."""
    data = read_file(folder, place(kind, index, width))
    if data is None and width < WIDTH:
        return read_file(folder, place(kind, index)), WIDTH
    return data, width


def entry_hashes(folder: Path, index: int, width: int) -> list[bytes]:
    """Hash the entries of a bundle: two bytes of length, the entry, and so on."""
    path, first = place("entries", index, width), index * WIDTH
    data, held = read_wide(folder, "entries", index, width)
    if data is None:
        raise Refused("log-rows-missing", f"entries are missing from {first} on: no `{path}`", index=first)
    hashes: list[bytes] = []
    sha256, at, end = hashlib.sha256, 0, len(data)
    while at + 2 <= end:
        stop = at + 2 + (data[at] << 8 | data[at + 1])
        hashes.append(sha256(b"\x00" + data[at + 2 : stop]).digest())
        at = stop
    if at != end:
        raise Refused("log-rows-missing", f"`{path}` is cut short", index=first)
    if len(hashes) > held:
        raise Refused("log-entry-edited", f"`{path}` holds more entries than its name says", index=first + held)
    if len(hashes) < held:
        missing = first + len(hashes)
        raise Refused("log-rows-missing", f"entries are missing from {missing} on in `{path}`", index=missing)
    return hashes[:width]


@dataclass(frozen=True)
class Wrong:
    """Something that isn't as it should be, in one of ``span`` entries from ``index`` on.

    Without a code, a hash tile and the entries differ, and the signed root tells later which of them was touched.
    """

    code: str
    message: str
    index: int
    span: int


def compare(folder: Path, level: int, index: int, computed: list[bytes]) -> Wrong | None:
    """Compare a hash tile with what the entries hash to; returns what is wrong with it, or None."""
    path, span = place(str(level), index, len(computed)), 1 << (8 * level)
    first = index * WIDTH * span
    data, held = read_wide(folder, str(level), index, len(computed))
    if data is None:
        code = "log-partial-tile-missing" if len(computed) < WIDTH else "log-tile-damaged"
        return Wrong(code, f"the hash tile `{path}` is missing", first, span)
    if len(data) != 32 * held:
        return Wrong("log-tile-damaged", f"`{path}` doesn't hold {held} hashes", first, span)
    if data[: 32 * len(computed)] == b"".join(computed):
        return None
    at = next(n for n, value in enumerate(computed) if data[32 * n : 32 * n + 32] != value)
    first = (index * WIDTH + at) * span
    return Wrong("", f"`{path}` isn't what the entries from {first} on hash to", first, span)


# --- The walk over all entries ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """Bundles ``first`` up to ``end`` of a log; ``cuts`` are the sizes inside of them that must be known."""

    folder: Path
    size: int
    first: int
    end: int
    cuts: tuple[int, ...]


@dataclass
class Walked:
    """What a span came to: the hash of each full bundle, the entry hashes of a partial one, and what was wrong."""

    bundles: list[bytes] = field(default_factory=list)
    rest: list[bytes] = field(default_factory=list)
    cut: dict[int, list[bytes]] = field(default_factory=dict)
    wrong: list[Wrong] = field(default_factory=list)
    whole: bool = True


def walk(span: Span) -> Walked:
    """Hash every entry of a span and compare each hash with its tile."""
    walked = Walked()
    for index in range(span.first, span.end):
        width = min(WIDTH, span.size - index * WIDTH)
        try:
            hashes = entry_hashes(span.folder, index, width)
        except Refused as refused:
            walked.wrong.append(Wrong(refused.code, refused.message, refused.index or 0, 1))
            walked.whole = False
            return walked
        found = compare(span.folder, 0, index, hashes)
        if found is not None:
            walked.wrong.append(found)
        for size in span.cuts:
            if index * WIDTH < size <= index * WIDTH + width:
                walked.cut[size] = hashes[: size - index * WIDTH]
        if width == WIDTH:
            walked.bundles.append(fold(hashes))
        else:
            walked.rest = hashes
    return walked


def spans(folder: Path, size: int, cuts: Iterable[int]) -> Iterator[Span]:
    """Cut a log into spans."""
    bundles = -(-size // WIDTH)
    for first in range(0, bundles, SPAN):
        end = min(first + SPAN, bundles)
        inside = tuple(cut for cut in cuts if first * WIDTH < cut <= end * WIDTH)
        yield Span(folder, size, first, end, inside)


def walk_all(parts: Iterator[Span], jobs: int) -> Iterator[Walked]:
    """Walk spans, in several processes, a few ahead; yields in their order."""
    if jobs <= 1:
        yield from map(walk, parts)
        return
    with ProcessPoolExecutor(jobs) as pool:
        waiting: list[Future[Walked]] = []
        for part in parts:
            waiting.append(pool.submit(walk, part))
            if len(waiting) >= 4 * jobs:
                yield waiting.pop(0).result()
        for one in waiting:
            yield one.result()


def verify_entries(folder: Path, head: Checkpoint, earlier: list[Checkpoint], jobs: int) -> None:
    """Check that the folder holds the log that ``head`` signs, and that it continues the earlier checkpoints."""
    walked: list[Walked] = []
    for part in walk_all(spans(folder, head.size, {one.size for one in earlier}), jobs if head.size > LARGE else 1):
        walked.append(part)
        if not part.whole:
            break  # nothing behind a gap can be verified, and a log may claim to have 10^18 entries
    check_tree(folder, head, walked)
    bundles = [value for one in walked for value in one.bundles]
    cut = {size: hashes for one in walked for size, hashes in one.cut.items()}
    for one in sorted(earlier, key=lambda one: one.size):
        full = (one.size - 1) // WIDTH if one.size else 0
        if tree_root(bundles[:full], cut.get(one.size, [])) != one.root:
            raise Refused("log-forked", f"the first {one.size} entries aren't those of the checkpoint that you kept")


def check_tree(folder: Path, head: Checkpoint, walked: list[Walked]) -> None:
    """Put the spans together: the tiles above them, and the root. Raises the first thing that is wrong."""
    wrong = [one for part in walked for one in part.wrong]
    if all(part.whole for part in walked):
        bundles = [value for part in walked for value in part.bundles]
        rest = walked[-1].rest if walked else []
        level, hashes = 1, bundles
        while hashes:
            tiles = [hashes[at : at + WIDTH] for at in range(0, len(hashes), WIDTH)]
            wrong += [found for index, tile in enumerate(tiles) if (found := compare(folder, level, index, tile))]
            level, hashes = level + 1, [fold(tile) for tile in tiles if len(tile) == WIDTH]
        if tree_root(bundles, rest) == head.root:
            # The entries are those that were signed; what differs from them is a tile.
            for one in sorted(wrong, key=lambda one: one.index):
                raise Refused(one.code or "log-tile-damaged", one.message, index=one.index)
            return
        wrong = [one for one in wrong if not one.code]
    if not wrong:
        raise Refused("log-entry-edited", f"the {head.size} entries don't hash to the signed root")
    first = finest(wrong)
    raise Refused(first.code or "log-entry-edited", first.message, index=first.index)


def finest(wrong: list[Wrong]) -> Wrong:
    """Return the first thing wrong, as narrow as any tile shows it: an edited entry makes all tiles above it differ."""
    first = min(wrong, key=lambda one: (one.index, one.span))
    inside = [one for one in wrong if one.span < first.span and first.index <= one.index < first.index + first.span]
    return finest(inside) if inside else first


# --- The command ------------------------------------------------------------------------------------------------------


def own_file(path: Path, what: str) -> bytes:
    """Read a file that the caller names."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_NOTE + 1)
    except OSError as error:
        raise Refused("unreadable", f"{what} `{path}` can't be read: {error.strerror}", ends=USAGE) from None


@dataclass(frozen=True)
class Report:
    """What was found good: the newest checkpoint, the size of all shards, who cosigned when, and what was kept."""

    head: Checkpoint
    size: int
    shards: int
    times: dict[str, int]
    quorum: str
    continues: list[int]

    def cosigned(self) -> dict[str, str]:
        """Return by witness when it cosigned; a cosignature may state no time."""
        return {name: shown_time(at) for name, at in sorted(self.times.items())}

    def to_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        root = base64.b64encode(self.head.root).decode()
        found = {"ok": True, "origin": self.head.origin, "size": self.size, "root": root, "shards": self.shards}
        return found | {"cosigned": self.cosigned(), "quorum": self.quorum, "continues": self.continues}


def shown_time(at: int) -> str:
    """Return a cosignature's time as text; it is the witness' word, and may be any number."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat() if at else "no time stated"
    except (ValueError, OverflowError, OSError):
        return "a time that no calendar has"


def require_quorum(policy: Policy, times: dict[str, int], now: float) -> None:
    """Check that enough witnesses cosigned; what states no time, or one that hasn't come, isn't counted."""
    stated = {name for name, at in times.items() if at}
    counted = {name for name in stated if times[name] <= now + CLOCK_SKEW}
    if not policy.met(counted):
        if policy.met(stated):
            raise Refused("cosignature-from-future", "witnesses cosigned at a time that hasn't come")
        message = f"cosigned by {', '.join(sorted(counted)) or 'nobody'}: the policy's quorum isn't met"
        raise Refused("witness-quorum-missing", message)


@dataclass
class Shard:
    """One tree of the log: where it lies, its keys, and how many entries stand before it."""

    folder: Path
    keys: list[Key]
    number: int = 1
    base: int = 0


Verified = tuple[Checkpoint, dict[str, int], list[int]]


def verify_shard(shard: Shard, kept: list[bytes], policy: Policy, given: argparse.Namespace) -> Verified:
    """Verify one shard; returns its checkpoint, who cosigned it or an earlier one, and the kept sizes."""
    data = read_file(shard.folder, "checkpoint")
    if data is None:
        raise Refused("no-checkpoint", "the folder holds no `checkpoint`", ends=USAGE)
    head, times = verify_note(data, shard.keys, policy)
    earlier = [verify_note(note, shard.keys, policy)[0] for note in kept]
    others = None if given.policy is None else read_file(shard.folder, "checkpoint.cosigned")
    if others is not None:
        # Witnesses cosign now and then: what they saw last is an earlier checkpoint, and their quorum may stand there.
        seen, their_times = verify_note(others, shard.keys, policy)
        earlier.append(seen)
        times = times if policy.met(name for name, at in times.items() if at) else their_times
    for one in earlier:
        if one.origin != head.origin:
            raise Refused("log-key-wrong", "the checkpoint that you kept is another log's")
        if one.size > head.size:
            message = f"the log has {head.size} entries; the checkpoint that you kept has {one.size}"
            raise Refused("log-rows-missing", message, index=head.size)
    verify_entries(shard.folder, head, earlier, given.jobs)
    return head, times, [one.size for one in earlier]


def closing(shard: Shard, head: Checkpoint, keeper: Key | None) -> Key | None:
    """Return the key that the next shard has by this one's last entry; None where that closes nothing."""
    index, inside = divmod(head.size - 1, WIDTH)
    data = read_wide(shard.folder, "entries", index, inside + 1)[0] if head.size else None
    for _ in range(inside):
        data = data and data[2 + (data[0] << 8 | data[1]) :]
    try:
        entry = json.loads(data[2 : 2 + (data[0] << 8 | data[1])] if data else b"")
        if entry["event"] != "log:shard:closed":
            return None
        facts, signature = entry["facts"], decode(entry.pop("sig"))
        named, public = (facts["next"], facts["base"]), decode(facts["key"].removeprefix("ed25519:"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # whatever it is, it closes nothing
    if named != (shard.number + 1, shard.base + head.size) or len(public) != KEY_BYTES[ED25519]:
        raise Refused("log-succession-broken", f"the last entry of shard {shard.number} closes another shard")
    if keeper is not None:
        body = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
        kind = b"application/vnd.strongroom.entry.v1"
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
        try:
            Ed25519PublicKey.from_public_bytes(keeper.public).verify(signature, signed)
        except InvalidSignature:
            raise Refused(
                "log-entry-forged", f"the keeper didn't close shard {shard.number}", index=head.size - 1
            ) from None
    first = head.origin if shard.number == 1 else head.origin.rpartition("/")[0]
    return Key(f"{first}/{shard.number + 1}", ED25519, public)


def follow(shard: Shard, head: Checkpoint, first: Path, keeper: Key | None) -> Shard | None:
    """Return the shard that goes on with this one, or None where the log ends with it."""
    number = shard.number + 1
    folder = first / "shards" / str(number)
    there = read_file(folder, "checkpoint") is not None
    key = closing(shard, head, keeper)
    if key is None and there:
        raise Refused("log-succession-broken", f"there is a shard {number}, and shard {shard.number} isn't closed")
    if key is None:
        return None
    if not there:
        raise Refused("log-shard-missing", f"shard {shard.number} is closed, and shard {number} isn't there")
    return Shard(folder, [key], number, shard.base + head.size)


def verify(given: argparse.Namespace) -> Report:
    """Do everything that the docstring of this file says; returns the report."""
    policy = Policy() if given.policy is None else Policy.parse(own_file(given.policy, "the policy"))
    logs = policy.logs
    if given.key is not None:
        key = Key.parse(own_file(given.key, "the key").decode("utf-8", "replace").strip())
        if policy.logs and key not in policy.logs:
            raise Refused("log-key-wrong", "the key isn't one of the logs' in the policy", ends=USAGE)
        logs = [key]
    if not logs:
        raise Refused("no-key", "give the log's key, by --key or in the policy", ends=USAGE)
    keeper = None if given.keeper is None else Key("keeper", ED25519, decode(given.keeper.removeprefix("ed25519:")))
    kept = [own_file(path, "the checkpoint") for path in given.previous]
    shard: Shard | None = Shard(given.folder, logs)
    times, continues = dict[str, int](), list[int]()
    while shard is not None:
        last, names = shard, {f"{key.name}\n".encode() for key in shard.keys}
        own = [note for note in kept if note.partition(b"\n")[0] + b"\n" in names]
        kept = [note for note in kept if note not in own]
        try:
            head, their_times, sizes = verify_shard(shard, own, policy, given)
            shard = follow(shard, head, given.folder, keeper)
        except Refused as refused:
            if last.number > 1:
                refused.message = f"shard {last.number}: {refused.message}"
                refused.index = None if refused.index is None else last.base + refused.index
            raise
        continues += [last.base + size for size in sizes]
        # A shard that was just begun may have no cosignature yet: then the end of the one before has them.
        times = times if times and not their_times else their_times
    for note in kept:
        if note.startswith(f"{logs[0].name}/".encode()):
            raise Refused("log-rows-missing", "a checkpoint that you kept is of a shard that isn't there")
        verify_note(note, logs, policy)
    require_quorum(policy, times, datetime.now(UTC).timestamp())
    return Report(head, last.base + head.size, last.number, times, policy.quorum, sorted(continues))


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(description="Verify a transparency log offline.")
    parser.add_argument("folder", type=Path, metavar="LOG_FOLDER")
    parser.add_argument("--key", type=Path, help="file with the log's verifier key")
    parser.add_argument("--keeper", help="key that closes shards: ed25519:BASE64")
    parser.add_argument("--policy", type=Path, help="C2SP tlog-policy file")
    parser.add_argument("--previous", type=Path, action="append", default=[], help="a checkpoint that you kept")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a policy may name a witness in bytes that are no text
    try:
        report = verify(given)
    except Refused as refused:
        found = {"ok": False, "code": refused.code, "index": refused.index, "message": refused.message}
        where = "" if refused.index is None else f" (first divergent index: {refused.index})"
        sys.stdout.write(json.dumps(found) + "\n" if given.json else f"{refused.code}: {refused.message}{where}\n")
        return refused.ends
    if given.json:
        sys.stdout.write(json.dumps(report.to_json()) + "\n")
        return OK
    head = report.to_json()
    cosigned = ", ".join(f"{name} ({at})" for name, at in report.cosigned().items())
    sys.stdout.write(f"ok: {head['size']} entries of `{head['origin']}`, root {head['root']}\n")
    sys.stdout.write(f"cosigned by {cosigned or 'nobody that you named'}; quorum: {report.quorum}\n")
    for size in report.continues:
        sys.stdout.write(f"continues the checkpoint of {size} entries that you kept\n")
    return OK


if __name__ == "__main__":
    sys.exit(main())
