"""Make ``tests/vectors/sealed``: ``PYTHONPATH=tests:src python tests/vectors/make_sealed_vectors.py``.

The same bytes each time, but for signatures and for what HPKE encrypts, which need randomness of their own: the stanzas
are kept in ``stanzas.json``, and made anew only where that file is missing. The outcomes are written down here by hand.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer, HybridSigner
from strongroom.keys.recipient import RecipientIdentity, encrypt_to
from strongroom.sealing.canary import Canary
from strongroom.sealing.header import HEADER_LENGTH
from strongroom.sealing.manifest import MANIFEST_TYPE, Manifest, ManifestObject, manifest_envelope
from strongroom.sealing.open import ObjectReader
from strongroom.sealing.prelude import Prelude, key_commitment
from strongroom.sealing.recipients import RECIPIENTS_NAME, Recipients, Stanza, StanzaKind, stanza_context
from strongroom.sealing.source import BytesSource
from strongroom.sealing.spread import Engine
from strongroom.sealing.store import MANIFEST_NAME
from strongroom.sealing.tree import Tree, leaf
from strongroom.sealing.write import ModelWriter, VersionFacts
from support.sealed import ROOM, SEGMENT, SIGNER, CountedRandom, content, seal_object
from support.sealed_entries import MemorySink, MemoryTarget
from support.sealed_vectors import FOLDER

STRANGER = HybridSigner.from_seed(b"s" * 32)
PUBLISHERS = {
    "dana": SIGNER.public_key,
    "stranger": STRANGER.public_key,
    "plain": Ed25519Signer.from_seed(b"p" * 32).public_key,
}
GENESIS = Digest.of(b"genesis of the sealed vectors")
KEYS = {name: hashlib.sha256(b"data key " + name.encode()).digest() for name in ("first", "second", "third")}
IDENTITY_SEED = hashlib.shake_256(b"recipient of the sealed vectors").digest(96)
STANZAS = FOLDER / "stanzas.json"
INDEX = "index.sealed"
OUTCOMES = {
    "ok": "nothing is refused",
    "malformed": "manifest or recipients: not JSON in its one form, or a member, a value or a size that isn't allowed",
    "bad-signature": "a signature by the publisher's key that doesn't verify",
    "manifest-not-hybrid": "the publisher's key that was given isn't hybrid",
    "manifest-wrong-signer": "no signature by the publisher's key",
    "manifest-of-other-deployment": "another genesis",
    "manifest-of-other-model": "another model",
    "manifest-rollback": "an older version than expected",
    "manifest-newer": "a newer version than expected",
    "manifest-digest": "another manifest than the one expected, for the version expected",
    "incomplete-seal": "no manifest",
    "object-missing": "an object or the index isn't there",
    "object-unexpected": "a file that the manifest doesn't name",
    "not-sealed": "step 1: no magic",
    "sealed-format": "step 1: version, segment length, flags, reserved bytes or FLOE parameters",
    "suite-refused": "step 1: a suite that isn't allowed",
    "sealed-truncated": "step 2 or 7: shorter than sealed",
    "sealed-extended": "step 2 or 7: longer than sealed",
    "object-of-other-model": "step 3: another model version's",
    "other-object": "step 3: another object of this model version",
    "sealed-header-mismatch": "step 4",
    "wrong-data-key": "step 5, or the manifest's commitment",
    "sealed-header-tampered": "step 6",
    "segment-tampered": "step 7 or 8",
    "segment-reordered": "step 7 or 8, told more precisely; `segment-tampered` is as right",
    "segment-duplicated": "step 7 or 8, told more precisely; `segment-tampered` is as right",
    "ciphertext-mismatch": "step 9",
    "sealed-index": "the index's form, or it doesn't fit the manifest",
    "recipients-tampered": "the recipients' authentication code",
    "absent": "recipients only: there is no such file",
}

Edit = dict[str, Any]


def key(name: str) -> SecretBytes:
    return SecretBytes(bytearray(KEYS[name]))


def packed(data: bytes) -> str:
    return b64encode(zlib.compress(data, 9)).decode()


@dataclass
class Good:
    """One good directory."""

    name: str
    plain: dict[str, tuple[int, bytes]]
    facts: VersionFacts
    data_key: str
    seed: bytes
    bits: int = 16
    canaries: tuple[Canary, ...] = ()
    recipients: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: Manifest = field(init=False)

    def __post_init__(self) -> None:
        target, random = MemoryTarget(), CountedRandom(self.seed)
        writer = ModelWriter(
            target,
            self.facts,
            data_key=key(self.data_key),
            random_bytes=random,
            engine=Engine(),
            segment_bits=self.bits,
        )
        for name, (mode, data) in self.plain.items():
            with writer.file(name, size=len(data), mode=mode) as sealer:
                sealer.write(data)
        stanzas = (self._stanza(),) if self.recipients else ()
        self.manifest = writer.finish(SIGNER, canaries=self.canaries, stanzas=stanzas).manifest
        self.files = target.files

    def _stanza(self) -> Stanza:
        identity = RecipientIdentity(SecretBytes(bytearray(IDENTITY_SEED)))
        kept: dict[str, str] = json.loads(STANZAS.read_text(encoding="utf-8")) if STANZAS.exists() else {}
        if self.name not in kept:
            facts = self.facts
            context = stanza_context(
                genesis=facts.genesis,
                model=facts.model,
                version=facts.version,
                commitment=key_commitment(key(self.data_key)),
            )
            kept[self.name] = b64encode(encrypt_to(identity.public, key(self.data_key), context)).decode()
            STANZAS.parent.mkdir(parents=True, exist_ok=True)
            STANZAS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        kind = StanzaKind.HPKE_MLKEM768_X25519
        return Stanza(kind=kind, recipient=identity.digest, ciphertext=b64decode(kept[self.name]))

    def object_of(self, name: str) -> ManifestObject:
        """Return the object that a file is in: objects are drawn in the order of ``plain``."""
        draws, random = list(self.plain), CountedRandom(self.seed)
        for drawn in draws:
            object_id = random(16)
            if drawn == name:
                return next(item for item in self.manifest.objects if item.object_id == object_id)
            segments = max(1, -(-len(self.plain[drawn][1]) // ((1 << self.bits) - 32)))
            random.calls += 1 + segments
        raise AssertionError(name)

    def resigned(self, **changes: Any) -> Edit:
        """Return the edit that puts a manifest there that the publisher signed, with ``changes``."""
        return {
            "op": "write",
            "file": MANIFEST_NAME,
            "zlib": packed(manifest_envelope(replace(self.manifest, **changes), SIGNER).to_bytes()),
        }

    def resigned_object(self, name: str, data: bytes) -> Edit:
        """Return the edit that puts a manifest there that the publisher signed for other bytes of a file's object."""
        old = self.object_of(name)
        tree = Tree()
        for part in (data[:HEADER_LENGTH], *_parts(data[HEADER_LENGTH:], 1 << self.bits)):
            tree.add(leaf(part))
        new = replace(old, size=len(data), header=Digest.of(data[:HEADER_LENGTH]), root=tree.root())
        return self.resigned(objects=tuple(new if item == old else item for item in self.manifest.objects))

    def with_index(self, plain: bytes) -> list[Edit]:
        """Return the edits that put another index there, signed by the publisher."""
        sink = MemorySink(None)
        index = self.manifest.index
        facts = seal_object(
            _Once(plain),
            sink.put,
            prelude=Prelude(
                model_version=self.manifest.model_version,
                object_id=index.object_id,
                commitment=self.manifest.commitment,
                segment_bits=self.bits,
            ),
            data_key=key(self.data_key),
            random_bytes=CountedRandom(b"another index"),
        )
        new = replace(index, size=facts.size, header=facts.header, root=facts.root)
        return [{"op": "write", "file": INDEX, "zlib": packed(bytes(sink.data))}, self.resigned(index=new)]

    def index(self) -> dict[str, Any]:
        """Return the parsed index."""
        expected = self.manifest.expectation(self.manifest.index)
        with ObjectReader(BytesSource(self.files[INDEX]), expected, key(self.data_key)) as reader:
            plain = bytearray(reader.plain_size)
            reader.read_into(0, memoryview(plain))
        parsed = decode(bytes(plain))
        assert isinstance(parsed, dict)
        return parsed


def _parts(data: bytes, length: int) -> list[bytes]:
    return [data[at : at + length] for at in range(0, len(data), length)]


class _Once:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def readinto(self, buffer: memoryview, /) -> int:
        taken = len(self._data[: len(buffer)])
        buffer[:taken] = self._data[:taken]
        self._data = self._data[taken:]
        return taken


def goods() -> dict[str, Good]:
    """Make the good directories."""
    facts = VersionFacts(
        genesis=GENESIS,
        model=ModelId("atlas"),
        version=1,
        predecessor=None,
        data_key_id="atlas-1",
        publisher=PersonId("dana"),
    )
    weights = content(2 * ROOM + 100, b"vector weights")
    first = Good(
        name="atlas-1",
        plain={"config.json": (0o644, b"{}"), "model/weights.bin": (0o600, weights)},
        facts=facts,
        data_key="first",
        seed=b"atlas-1",
        canaries=(
            Canary.of_tokens("greeting", [1, 2, 3], [4, 5]),
            Canary.of_vector("embedding", [1], [0.5, -0.25], tolerance=1000),
        ),
        recipients=True,
    )
    second = Good(
        name="atlas-2",
        plain={"config.json": (0o644, b"[]"), "model/weights.bin": (0o600, weights[:1000])},
        facts=replace(facts, version=2, predecessor=first.manifest.digest, data_key_id="atlas-2"),
        data_key="second",
        seed=b"atlas-2",
    )
    again = Good(
        name="atlas-1-again",
        plain={"config.json": (0o644, b"{}"), "model/weights.bin": (0o600, b"")},
        facts=facts,
        data_key="first",
        seed=b"again",
    )
    other = Good(
        name="boreas-1",
        plain={"config.json": (0o644, b"{}")},
        facts=replace(facts, model=ModelId("boreas")),
        data_key="first",
        seed=b"atlas-1",
    )
    tails = Good(
        name="tails-1",
        plain={
            "empty": (0o644, b""),
            "exact": (0o644, content(ROOM, b"exact")),
            "one": (0o755, b"1"),
            "over": (0o644, content(ROOM + 1, b"over")),
        },
        facts=replace(facts, model=ModelId("tails"), data_key_id="tails"),
        data_key="third",
        seed=b"tails",
    )
    wide = Good(
        name="wide-1",
        plain={"\u0142\u0105ka.bin": (0o644, content(2 * SEGMENT - 31, b"wide"))},
        facts=replace(facts, model=ModelId("wide"), data_key_id="wide"),
        data_key="third",
        seed=b"wide",
        bits=17,
    )
    return {good.name: good for good in (first, second, again, other, tails, wide)}


class Cases:
    """The list of cases."""

    def __init__(self, good: dict[str, Good]) -> None:
        self.good, self.made = good, list[dict[str, Any]]()

    def add(
        self,
        name: str,
        outcome: str,
        *edits: Edit,
        base: str = "atlas-1",
        verify: str = "",
        ranges: str = "",
        recipients: str = "",
        **more: Any,
    ) -> None:
        """Add one: ``outcome`` of reading a whole file, and where they differ those of the other ways in."""
        good = self.good[base]
        found = {"whole": outcome, "ranges": ranges or outcome, "verify": verify or outcome}
        found["recipients"] = recipients or ("ok" if good.recipients else "absent")
        assert set(found.values()) <= set(OUTCOMES), found
        expect: dict[str, Any] = {
            "genesis": str(GENESIS),
            "model": good.facts.model,
            "version": good.facts.version,
            "digest": None,
        }
        self.made.append(
            {
                "name": name,
                "directory": base,
                "edits": list(edits),
                "data_key": KEYS[more.pop("data_key", good.data_key)].hex(),
                "publisher": more.pop("publisher", "dana"),
                "expect": expect | more.pop("expect", {}),
                "outcomes": found,
                **more,
            }
        )


def xor(file: str, at: int, mask: bytes = b"\1") -> Edit:
    return {"op": "xor", "file": file, "at": at, "hex": mask.hex()}


def put(file: str, at: int, value: bytes) -> Edit:
    return {"op": "put", "file": file, "at": at, "hex": value.hex()}


def edited(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def cases(good: dict[str, Good]) -> list[dict[str, Any]]:
    """Make all cases."""
    made = Cases(good)
    for one in good.values():
        made.add(
            f"good: {one.name}",
            "ok",
            base=one.name,
            expect={"digest": str(one.manifest.digest)},
            files={
                name: {"mode": mode, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, (mode, data) in sorted(one.plain.items())
            },
            canaries=[canary.to_json() for canary in one.canaries],
        )
    _headers(made)
    _segments(made)
    _directories(made)
    _manifests(made)
    _indexes(made)
    _recipients(made)
    return made.made


def _headers(made: Cases) -> None:
    atlas = made.good["atlas-1"]
    config = atlas.object_of("config.json").name
    data = atlas.files[config]
    for what, at, value, outcome in [
        ("magic", 0, b"\x88", "not-sealed"),
        ("line end in the magic", 4, b"\n", "not-sealed"),
        ("version 0", 8, b"\0\0", "sealed-format"),
        ("version 2", 8, b"\0\2", "sealed-format"),
        ("suite 0", 10, b"\0\0", "suite-refused"),
        ("suite 2", 10, b"\0\2", "suite-refused"),
        ("suite 65535", 10, b"\xff\xff", "suite-refused"),
        ("segments of 2^15", 12, b"\x0f", "sealed-format"),
        ("segments of 2^25", 12, b"\x19", "sealed-format"),
        ("segments of 2^17, FLOE header says 2^16", 12, b"\x11", "sealed-format"),
        ("flags", 13, b"\1", "sealed-format"),
        ("model version id", 14, b"\xee" * 16, "object-of-other-model"),
        ("object id", 30, b"\xee" * 16, "other-object"),
        ("commitment", 46, b"\xee" * 32, "sealed-header-mismatch"),
        ("first reserved byte", 78, b"\1", "sealed-format"),
        ("last reserved byte", 4021, b"\1", "sealed-format"),
        ("FLOE AEAD", 4022, b"\1", "sealed-format"),
        ("FLOE KDF", 4023, b"\1", "sealed-format"),
        ("FLOE segment length", 4027, b"\1", "sealed-format"),
        ("FLOE IV length", 4031, b"\1", "sealed-format"),
        ("IV", 4032, b"\xee" * 32, "sealed-header-mismatch"),
        ("header tag", 4064, b"\xee" * 32, "sealed-header-mismatch"),
    ]:
        edit = put(config, at, value)
        made.add(f"header: {what}", outcome, edit)
        resigned = atlas.resigned_object("config.json", edited(data, at, value))
        if outcome == "suite-refused":
            made.add(f"header, even if signed: {what}", outcome, edit, resigned)
        elif outcome == "sealed-header-mismatch":
            refused = "wrong-data-key" if at == 46 else "sealed-header-tampered"
            # Whoever has no key sees bytes that the publisher signed.
            made.add(f"header, even if signed: {what}", refused, edit, resigned, verify="ok")


def _segments(made: Cases) -> None:
    atlas, tails = made.good["atlas-1"], made.good["tails-1"]
    weights = atlas.object_of("model/weights.bin").name
    whole = len(atlas.files[weights])
    for position in range(3):
        begin = HEADER_LENGTH + position * SEGMENT
        end = min(begin + SEGMENT, whole)
        for what, at in [("nonce", begin + 4), ("ciphertext", begin + 16), ("tag", end - 16), ("last byte", end - 1)]:
            made.add(
                f"segment {position}: {what}",
                "segment-tampered",
                xor(weights, at),
                verify="ciphertext-mismatch",
            )
    made.add(
        "segment 0: length field", "segment-tampered", xor(weights, HEADER_LENGTH + 3), verify="ciphertext-mismatch"
    )
    made.add(
        "segment 1: blanked",
        "segment-tampered",
        {"op": "put", "file": weights, "at": HEADER_LENGTH + SEGMENT, "hex": "00" * 1024},
        verify="ciphertext-mismatch",
    )
    for what, order, outcome in [
        ("exchanged", [1, 0, 2], "segment-reordered"),
        ("repeated", [0, 0, 2], "segment-duplicated"),
    ]:
        edit = {"op": "segments", "file": weights, "length": SEGMENT, "order": order}
        made.add(f"segments {what}", outcome, edit, verify="ciphertext-mismatch")
    for what, order, outcome in [
        ("cut off", [0, 1], "sealed-truncated"),
        ("one more", [0, 1, 2, 2], "sealed-extended"),
    ]:
        made.add(f"segments: {what}", outcome, {"op": "segments", "file": weights, "length": SEGMENT, "order": order})
    for size in (0, 7):
        made.add(f"object of {size} bytes", "not-sealed", {"op": "truncate", "file": weights, "size": size})
    for size in (8, 4095, 4096, 4127, whole - 1):
        made.add(f"object of {size} bytes", "sealed-truncated", {"op": "truncate", "file": weights, "size": size})
    made.add("object longer by a byte", "sealed-extended", {"op": "append", "file": weights, "hex": "00"})
    empty = tails.object_of("empty").name
    made.add("empty file: tag", "segment-tampered", xor(empty, 4127), base="tails-1", verify="ciphertext-mismatch")
    exact = tails.object_of("exact").name
    made.add(
        "exact multiple: an empty segment more",
        "sealed-extended",
        {"op": "append", "file": exact, "hex": "00000020" + "00" * 28},
        base="tails-1",
    )
    # Another holder of the data key, with the same IV: authentic, and not what was signed.
    forged = Good(
        name="forged",
        plain={"config.json": (0o644, b"[]")},
        facts=atlas.facts,
        data_key=atlas.data_key,
        seed=atlas.seed,
    )
    config = atlas.object_of("config.json").name
    made.add(
        "forged by a holder of the data key: an object",
        "ciphertext-mismatch",
        put(config, HEADER_LENGTH, forged.files[config][HEADER_LENGTH:]),
        ranges="ok",
    )


def _directories(made: Cases) -> None:
    atlas = made.good["atlas-1"]
    config = atlas.object_of("config.json").name
    weights = atlas.object_of("model/weights.bin").name
    made.add(
        "plaintext in the place of an object", "not-sealed", {"op": "write", "file": config, "zlib": packed(b"{}")}
    )
    made.add("object missing", "object-missing", {"op": "remove", "file": weights})
    made.add("index missing", "object-missing", {"op": "remove", "file": INDEX})
    for name in ("model.safetensors", "objects/extra", ".hidden", "journal"):
        made.add(
            f"a file that isn't named: {name}", "object-unexpected", {"op": "write", "file": name, "zlib": packed(b"x")}
        )
    other = made.good["boreas-1"]
    assert config in other.files
    made.add(
        "object of another model, same key and ids",
        "object-of-other-model",
        {"op": "copy", "file": config, "from": ["boreas-1", config]},
    )
    again = made.good["atlas-1-again"]
    made.add(
        "object of the same version sealed again",
        "other-object",
        {"op": "copy", "file": config, "from": ["atlas-1-again", again.object_of("config.json").name]},
    )
    made.add(
        "index of the same version sealed again",
        "sealed-truncated",
        {"op": "copy", "file": INDEX, "from": ["atlas-1-again", INDEX]},
    )
    made.add("wrong data key", "wrong-data-key", data_key="third", verify="ok", recipients="recipients-tampered")


def _signed(payload: bytes) -> Edit:
    return {"op": "write", "file": MANIFEST_NAME, "zlib": packed(sign(MANIFEST_TYPE, payload, SIGNER).to_bytes())}


def _written(envelope: Envelope) -> Edit:
    return {"op": "write", "file": MANIFEST_NAME, "zlib": packed(envelope.to_bytes())}


def _manifests(made: Cases) -> None:
    atlas = made.good["atlas-1"]
    envelope = Envelope.parse(atlas.files[MANIFEST_NAME])
    made.add("no manifest", "incomplete-seal", {"op": "remove", "file": MANIFEST_NAME})
    for what, text in [("empty", b""), ("not JSON", b"{"), ("a list", b"[]"), ("no envelope", b"{}")]:
        made.add(f"manifest: {what}", "malformed", {"op": "write", "file": MANIFEST_NAME, "zlib": packed(text)})
    made.add("manifest: unsigned", "manifest-wrong-signer", _written(replace(envelope, signatures=())))
    made.add(
        "manifest: signed by a stranger", "manifest-wrong-signer", _written(manifest_envelope(atlas.manifest, STRANGER))
    )
    first = envelope.signatures[0]
    bad = replace(first, value=bytes([first.value[0] ^ 1]) + first.value[1:])
    made.add(
        "manifest: signature altered",
        "bad-signature",
        _written(replace(envelope, signatures=(bad, *envelope.signatures[1:]))),
    )
    changed = replace(atlas.manifest, publisher=PersonId("eve")).to_bytes()
    made.add("manifest: payload altered", "bad-signature", _written(replace(envelope, payload=changed)))
    made.add(
        "manifest: another payload type",
        "malformed",
        _written(sign("application/vnd.strongroom.request.v1", atlas.manifest.to_bytes(), SIGNER)),
    )
    parsed = decode(atlas.manifest.to_bytes())
    assert isinstance(parsed, dict)
    made.add("manifest: spaces in it", "malformed", _signed(json.dumps(parsed, sort_keys=True).encode()))
    changes: Iterable[tuple[str, dict[str, Any]]] = [
        ("v 2", {"v": 2}),
        ("a member more", {"extra": 1}),
        ("version 0", {"version": 0}),
        ("version as text", {"version": "1"}),
        ("version 1 with a predecessor", {"predecessor": str(GENESIS)}),
        ("version 2 without a predecessor", {"version": 2}),
        ("no objects", {"objects": []}),
        ("objects out of order", {"objects": list(reversed(list(_items(parsed["objects"]))))}),
        ("an object twice", {"objects": [*_items(parsed["objects"]), *_items(parsed["objects"])[-1:]]}),
        ("a short commitment", {"commitment": "AAAA"}),
        ("a digest by another algorithm", {"genesis": "md5:00"}),
    ]
    for what, change in changes:
        made.add(f"manifest, signed: {what}", "malformed", _signed(encode(parsed | change)))
    for what, outcome, expect in [
        ("another deployment", "manifest-of-other-deployment", {"genesis": str(Digest.of(b"another"))}),
        ("another model", "manifest-of-other-model", {"model": "boreas"}),
        ("rollback", "manifest-rollback", {"version": 2, "digest": str(made.good["atlas-2"].manifest.digest)}),
        ("another manifest of the version", "manifest-digest", {"digest": str(Digest.of(b"another"))}),
    ]:
        made.add(f"expected: {what}", outcome, expect=expect)
    made.add("expected: an older version", "manifest-newer", base="atlas-2", expect={"version": 1})
    made.add("expected: a publisher's plain key", "manifest-not-hybrid", publisher="plain")
    made.add("expected: another publisher", "manifest-wrong-signer", publisher="stranger")


def _items(value: Any) -> list[Any]:
    assert isinstance(value, list)
    return value


def _indexes(made: Cases) -> None:
    atlas = made.good["atlas-1"]
    index = atlas.index()
    config, weights = _items(index["files"])
    forged = Good(
        name="forged",
        plain={name: (mode ^ 0o100, data) for name, (mode, data) in atlas.plain.items()},
        facts=atlas.facts,
        data_key=atlas.data_key,
        seed=atlas.seed,
        canaries=atlas.canaries,
    )
    assert forged.files[INDEX][:HEADER_LENGTH] == atlas.files[INDEX][:HEADER_LENGTH]
    made.add(
        "forged by a holder of the data key: the index",
        "ciphertext-mismatch",
        put(INDEX, HEADER_LENGTH, forged.files[INDEX][HEADER_LENGTH:]),
    )
    made.add(
        "index: one byte",
        "ciphertext-mismatch",
        xor(INDEX, HEADER_LENGTH + 20),
    )
    lies: list[tuple[str, dict[str, Any]]] = [
        ("a name that leaves the directory", {"files": [config | {"name": "../config.json"}, weights]}),
        ("an absolute name", {"files": [config | {"name": "/etc/passwd"}, weights]}),
        ("a name with a backslash", {"files": [config | {"name": "a\\b"}, weights]}),
        ("names that differ in case", {"files": [config | {"name": "MODEL/weights.bin"}, weights]}),
        ("out of order", {"files": [weights, config]}),
        ("a file left out", {"files": [config]}),
        ("a file twice", {"files": [config, weights, weights]}),
        ("another size", {"files": [config | {"size": 3}, weights]}),
        (
            "objects exchanged",
            {"files": [config | {"object": weights["object"]}, weights | {"object": config["object"]}]},
        ),
        ("a mode beyond 0777", {"files": [config | {"mode": 0o1644}, weights]}),
        ("a member more", {"extra": 1}),
        ("no canaries", {"canaries": None}),
        ("a canary of another kind", {"canaries": [_items(index["canaries"])[0] | {"kind": "checksum"}]}),
        ("a canary without an answer", {"canaries": [_items(index["canaries"])[0] | {"output": []}]}),
    ]
    for what, change in lies:
        made.add(f"index, signed: {what}", "sealed-index", *atlas.with_index(encode(index | change)), verify="ok")
    spaced = json.dumps(index, sort_keys=True).encode()
    made.add("index, signed: spaces in it", "sealed-index", *atlas.with_index(spaced), verify="ok")


def _recipients(made: Cases) -> None:
    atlas = made.good["atlas-1"]
    found = Recipients.parse(atlas.files[RECIPIENTS_NAME])
    made.add("recipients: stripped", "ok", {"op": "remove", "file": RECIPIENTS_NAME}, recipients="absent")

    def changed(what: str, new: bytes, outcome: str) -> None:
        edit = {"op": "write", "file": RECIPIENTS_NAME, "zlib": packed(new)}
        made.add(f"recipients: {what}", "ok", edit, recipients=outcome)

    stanza = found.stanzas[0]
    more = replace(stanza, recipient=Digest.of(b"eve"))
    two = tuple(sorted((stanza, more), key=lambda one: str(one.recipient)))
    changed("one added", replace(found, stanzas=two).to_bytes(), "recipients-tampered")
    changed("one exchanged", replace(found, stanzas=(more,)).to_bytes(), "recipients-tampered")
    changed(
        "under another key",
        Recipients.of((stanza,), commitment=found.commitment, data_key=key("third")).to_bytes(),
        "recipients-tampered",
    )
    parsed = decode(found.to_bytes())
    assert isinstance(parsed, dict)
    changed("none left", encode(parsed | {"stanzas": []}), "malformed")
    changed(
        "one twice", encode(parsed | {"stanzas": [*_items(parsed["stanzas"]), *_items(parsed["stanzas"])]}), "malformed"
    )
    changed(
        "a kind that isn't known",
        encode(parsed | {"stanzas": [_items(parsed["stanzas"])[0] | {"kind": "rsa"}]}),
        "malformed",
    )
    changed("not JSON", b"none", "malformed")


def document(good: dict[str, Good]) -> dict[str, Any]:
    """Make ``cases.json``."""
    return {
        "about": "docs/spec/sealed-weights.md, section Vectors",
        "outcomes": OUTCOMES,
        "recipient_identity": IDENTITY_SEED.hex(),
        "publishers": {name: str(public) for name, public in PUBLISHERS.items()},
        "cases": cases(good),
    }


def main() -> None:
    """Write everything below :data:`FOLDER`, or below the folder that is given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    good = goods()
    for one in good.values():
        for name, data in one.files.items():
            path = folder / one.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    (folder / "cases.json").write_text(json.dumps(document(good), indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
