#!/usr/bin/env python3
"""Open sealed weights without Strongroom: the whole format (docs/spec/sealed-weights.md) in one file, for reading.

    open_sealed.py verify DIRECTORY [--publisher FILE]              no data key needed
    open_sealed.py list DIRECTORY [--key-file FILE]                 modes, sizes and names
    open_sealed.py unseal DIRECTORY --to NEW [--key-file FILE]      the files; NEW appears whole or not at all

The data key is 64 hex digits, from the file or from standard input: a command line can be read by others. Without
``--publisher`` (a file with the public key) nothing says who made the model; without ``--version`` or ``--digest``, an
old version passes. It needs Python 3.11 and `cryptography`, and shares no code with the package on purpose: a second
reading of the specification, and a way to your weights if we are gone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import re
import shutil
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HEADER, OVERHEAD, INDEX = 4096, 32, "index.sealed"
MAX_OBJECTS, MAX_INDEX, MAX_MANIFEST = 2048, 4 << 20, 1 << 20
TYPE = b"application/vnd.strongroom.manifest.v1"
HYBRID, LABEL = "ed25519-ml-dsa-65:", b"strongroom ed25519-ml-dsa-65 v1"
DIGEST, OBJECT = r"sha256:[0-9a-f]{64}", r"[0-9a-f]{32}"


class RefusedError(Exception):
    """Something isn't as it was sealed: an outcome of the specification, and where."""


def need(condition: Any, outcome: str, where: str) -> None:
    """Go on only if ``condition`` holds."""
    if not condition:
        raise RefusedError(outcome, where)


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand-SHA-384."""
    return HKDFExpand(hashes.SHA384(), length, info).derive(key)


def sha256(data: bytes) -> str:
    """Return a digest in its text form."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def unbase64(text: str, outcome: str, where: str) -> bytes:
    """Decode standard base64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise RefusedError(outcome, where) from None


def one_form(value: Any) -> bytes:
    """Encode as RFC 8785 does; without floats and with ASCII member names, that is this."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parsed(data: bytes, outcome: str, where: str) -> Any:
    """Parse JSON that must be in its one form."""
    try:
        value = json.loads(data)
        need(one_form(value) == data, outcome, f"{where} isn't in its one form")
    except (ValueError, RecursionError):
        raise RefusedError(outcome, f"{where} isn't JSON") from None
    return value


def members(value: Any, outcome: str, where: str, **allowed: Any) -> dict[str, Any]:
    """Check that an object has exactly these members: each of a type, or a text that matches a pattern."""
    need(isinstance(value, dict) and set(value) == set(allowed), outcome, f"{where} has other members")
    for name, kind in allowed.items():
        found, text = value[name], isinstance(kind, str)
        need(type(found) is (str if text else kind), outcome, f"{where}: {name}")
        need(not text or re.fullmatch(kind, found), outcome, f"{where}: {name}")
        need(type(found) is not int or 0 <= found < 2**53, outcome, f"{where}: {name}")
    return dict(value)


# ---- the manifest ----


def verify_signature(signatures: list[dict[str, Any]], payload: bytes, publisher: str) -> None:
    """Check the publisher's signature, both halves of it."""
    need(publisher.startswith(HYBRID), "manifest-not-hybrid", "the publisher's key")
    public = unbase64(publisher.removeprefix(HYBRID), "manifest-not-hybrid", "the publisher's key")
    need(len(public) == 32 + 1952, "manifest-not-hybrid", "the publisher's key")
    key_id = hashlib.sha256(publisher.encode()).hexdigest()[:32]
    ours = [one["sig"] for one in signatures if one["keyid"] == key_id]
    need(ours, "manifest-wrong-signer", "no signature by the publisher")
    message = b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE, len(payload), payload)
    bound = LABEL + b"\0" + hashlib.sha256(public).digest() + message
    for signature in (unbase64(text, "bad-signature", "the publisher's signature") for text in ours):
        try:
            Ed25519PublicKey.from_public_bytes(public[:32]).verify(signature[:64], bound)
            MLDSA65PublicKey.from_public_bytes(public[32:]).verify(signature[64:], bound, LABEL)
        except (ValueError, InvalidSignature):
            raise RefusedError("bad-signature", "the publisher's signature doesn't verify") from None


def read_manifest(root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Read the manifest, and check its form, its signature and what is expected of it."""
    code, where = "malformed", "manifest.json"
    need((root / where).is_file(), "incomplete-seal", "there is no manifest")
    with (root / where).open("rb") as file:
        data = file.read(MAX_MANIFEST + 1)
    need(len(data) <= MAX_MANIFEST, code, where)
    envelope = members(parsed(data, code, where), code, where, payload=str, payloadType=TYPE.decode(), signatures=list)
    signatures = [members(one, code, "signature", keyid=str, sig=str) for one in envelope["signatures"]]
    payload = unbase64(envelope["payload"], code, where)
    found = parsed(payload, code, where)
    first = isinstance(found, dict) and found.get("version") == 1
    manifest = members(
        found, code, where, v=int, genesis=DIGEST, model=r"[a-z0-9][a-z0-9._-]{0,63}", version=int,
        predecessor=type(None) if first else DIGEST, data_key=r"[A-Za-z0-9._:/-]{1,128}",
        commitment=r"[A-Za-z0-9+/]{43}=", publisher=r"\S{1,64}", index=dict, objects=list,
    )  # fmt: skip
    for item in (manifest["index"], *manifest["objects"]):
        members(item, code, "object", object=OBJECT, size=int, header=DIGEST, root=DIGEST)
    ids = [item["object"] for item in manifest["objects"]]
    need(manifest["v"] == 1 and manifest["version"] >= 1, code, "version")
    need(1 <= len(ids) <= MAX_OBJECTS and ids == sorted(set(ids)), code, "objects")
    need(manifest["index"]["object"] not in ids, code, "objects")
    if given.publisher:
        verify_signature(signatures, payload, Path(given.publisher).read_text(encoding="ascii").strip())
    version, expected = manifest["version"], given.version or manifest["version"]
    need(given.genesis in {None, manifest["genesis"]}, "manifest-of-other-deployment", "genesis")
    need(given.model in {None, manifest["model"]}, "manifest-of-other-model", "model")
    need(version >= expected, "manifest-rollback", f"it is version {version}")
    need(version <= expected, "manifest-newer", f"it is version {version}")
    need(given.digest in {None, sha256(payload)}, "manifest-digest", "another manifest of this version")
    return manifest


def objects(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the manifest says of each object, by its file's name; the index first."""
    return {INDEX: manifest["index"]} | {f"objects/{item['object']}.sealed": item for item in manifest["objects"]}


def check_listing(root: Path, manifest: dict[str, Any]) -> None:
    """Check that the directory has what the manifest names, and nothing else but the recipients."""
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}
    wanted = {"manifest.json", *objects(manifest)}
    need(wanted <= found, "object-missing", ", ".join(sorted(wanted - found)))
    for name in sorted(found):
        regular = (root / name).is_file() and not (root / name).is_symlink()
        need(regular and name in wanted | {"recipients.json"}, "object-unexpected", ascii(name))


# ---- one object: steps 1 to 9, numbered as in the specification ----


class SealedObject:
    """One object: steps 1 to 4 when it is made, the rest as it is read."""

    def __init__(self, root: Path, name: str, manifest: dict[str, Any]) -> None:
        item = objects(manifest)[name]
        self.name, self.root = name, item["root"]
        self.file = (root / name).open("rb")
        self.header = head = self.file.read(HEADER)
        self.size = self.file.seek(0, 2)
        need(head[:8] == b"\x89SRW\r\n\x1a\n", "not-sealed", name)  # 1
        need(len(head) == HEADER, "sealed-truncated", name)
        need(head[8:10] == b"\0\1", "sealed-format", name)
        need(head[10:12] == b"\0\1", "suite-refused", name)
        need(16 <= head[12] <= 24 and head[13] == 0 and not any(head[78:4022]), "sealed-format", name)
        self.length = 1 << head[12]
        need(head[4022:4032] == b"\0\0" + self.length.to_bytes(4, "big") + b"\0\0\0\x20", "sealed-format", name)
        need(self.size >= item["size"], "sealed-truncated", name)  # 2
        need(self.size <= item["size"], "sealed-extended", name)
        named = one_form({name: manifest[name] for name in ("genesis", "model", "version")})
        version = hashlib.sha256(b"strongroom model version v1\0" + named).digest()[:16]
        need(head[14:30] == version, "object-of-other-model", name)  # 3
        need(head[30:46].hex() == item["object"], "other-object", name)
        need(sha256(head) == item["header"], "sealed-header-mismatch", name)  # 4
        body = self.size - HEADER
        self.count = -(-body // self.length)
        self.last = body - (self.count - 1) * self.length
        need(self.count >= 1 and self.last >= OVERHEAD, "sealed-truncated", name)
        need(self.count <= 2**40 and (self.last > OVERHEAD or self.count == 1), "sealed-extended", name)
        self.plain_size = body - self.count * OVERHEAD

    def segment(self, position: int) -> bytes:
        """Read one segment."""
        self.file.seek(HEADER + position * self.length)
        length = self.last if position == self.count - 1 else self.length
        data = self.file.read(length)
        need(len(data) == length, "sealed-truncated", self.name)
        return data

    def unlock(self, key: bytes) -> None:
        """Do steps 5 to 7."""
        commitment = expand(key, b"strongroom data key commitment v1", 32)
        need(self.header[46:78] == commitment, "wrong-data-key", self.name)  # 5
        self.prefix, self.aad = self.header[4022:4064], self.header[:4022]
        tag = expand(key, self.prefix + b"HEADER_TAG:" + self.aad, 32)
        need(hmac.compare_digest(tag, self.header[4064:]), "sealed-header-tampered", self.name)  # 6
        self.message_key = expand(key, self.prefix + b"MESSAGE_KEY:" + self.aad, 48)
        self.decrypt(self.count - 1, self.segment(self.count - 1))  # 7

    def decrypt(self, position: int, segment: bytes) -> bytes:
        """Do step 8."""
        final, group = position == self.count - 1, position >> 20 << 20
        where = f"{self.name}: segment {position}"
        need(not (final and segment[:4] == b"\xff" * 4), "sealed-truncated", where)
        need(segment[:4] == (len(segment).to_bytes(4, "big") if final else b"\xff" * 4), "segment-tampered", where)
        key = expand(self.message_key, self.prefix + b"DEK:" + group.to_bytes(8, "big") + self.aad, 32)
        try:
            return AESGCM(key).decrypt(segment[4:16], segment[16:], position.to_bytes(8, "big") + bytes([final]))
        except InvalidTag:
            raise RefusedError("segment-tampered", where) from None

    def copy(self, out: Any = None) -> None:
        """Do step 9, and write the plaintext to ``out`` if there is one: believe it only after this returned."""
        leaves = [hashlib.sha256(b"\0" + self.header).digest()]
        for position in range(self.count):
            segment = self.segment(position)
            leaves.append(hashlib.sha256(b"\0" + segment).digest())
            if out is not None:
                out.write(self.decrypt(position, segment))
        need(f"sha256:{tree(leaves).hex()}" == self.root, "ciphertext-mismatch", self.name)  # 9


def tree(leaves: list[bytes]) -> bytes:
    """Return the root of RFC 6962's tree over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree(leaves[:half]) + tree(leaves[half:])).digest()


# ---- the index and the files ----


def safe(name: str) -> bool:
    """Tell whether a name stays inside its directory, on every system."""
    parts = name.split("/")
    bad = any(part in {"", ".", ".."} or part[-1] in ". " or len(part.encode()) > 255 for part in parts)
    good = name.isprintable() and not set(name) & set('\\:*?"<>|')
    return good and not bad and len(parts) <= 16 and len(name.encode()) <= 1024


def read_index(root: Path, manifest: dict[str, Any], key: bytes) -> list[dict[str, Any]]:
    """Return the files: step 9 of the index first, so that it is as good as signed."""
    code = "sealed-index"
    need(manifest["index"]["size"] <= MAX_INDEX + (1 << 16), code, "too long")
    index = SealedObject(root, INDEX, manifest)
    index.copy()
    index.unlock(key)
    plain = b"".join(index.decrypt(position, index.segment(position)) for position in range(index.count))
    value = members(parsed(plain, code, "index"), code, "index", v=int, files=list, canaries=list)
    for canary in value["canaries"]:  # unused here; who runs the model compares its answers
        tokens = isinstance(canary, dict) and canary.get("kind") == "tokens"
        answer: dict[str, Any] = {"output": list} if tokens else {"vector": str, "tolerance": int}
        members(canary, code, "canary", name=r".{1,64}", kind="tokens|vector", input=list, **answer)
        need(canary["output" if tokens else "vector"], code, "a canary without an answer")
    files = [members(one, code, "file", name=str, mode=int, size=int, object=OBJECT) for one in value["files"]]
    names, spelled = [file["name"] for file in files], dict[str, str]()
    for file in files:
        need(safe(file["name"]) and file["mode"] <= 0o777, code, ascii(file["name"]))
        parts = file["name"].split("/")
        for prefix in ("/".join(parts[: n + 1]) for n in range(len(parts))):
            folded = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", prefix).casefold())
            need(spelled.setdefault(folded, prefix) == prefix, code, f"{prefix!a}: one name on some systems")
            need(prefix == file["name"] or prefix not in names, code, f"{prefix!a} is a file and a folder")
    need(value["v"] == 1 and names == sorted(set(names)), code, "names out of order, or twice")
    ids = [item["object"] for item in manifest["objects"]]
    need(sorted(file["object"] for file in files) == ids, code, "not the manifest's objects")
    for file in files:
        found = SealedObject(root, f"objects/{file['object']}.sealed", manifest)
        need(found.plain_size == file["size"], code, "a size that doesn't fit its object")
    return files


def unseal(root: Path, manifest: dict[str, Any], files: list[dict[str, Any]], key: bytes, to: Path) -> None:
    """Write all files below a new folder, which gets its name when all of them are right."""
    building = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        for file in files:
            path = building / file["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            found = SealedObject(root, f"objects/{file['object']}.sealed", manifest)
            found.unlock(key)
            with path.open("xb") as out:
                found.copy(out)
            path.chmod(file["mode"])
        building.rename(to)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def data_key(path: str | None, manifest: dict[str, Any]) -> bytes:
    """Read the data key and compare it with the manifest's commitment."""
    text = (Path(path).read_text(encoding="ascii") if path else sys.stdin.readline()).strip()
    need(re.fullmatch(r"[0-9a-fA-F]{64}", text), "wrong-data-key", "it must be 64 hex digits")
    commitment = expand(bytes.fromhex(text), b"strongroom data key commitment v1", 32)
    need(base64.b64encode(commitment).decode() == manifest["commitment"], "wrong-data-key", "manifest.json")
    return bytes.fromhex(text)


def main() -> int:
    """Run one command; 1 if something is refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("command", choices=("verify", "list", "unseal"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--version", type=int)
    for name in ("--key-file", "--publisher", "--genesis", "--model", "--digest"):
        parser.add_argument(name)
    given = parser.parse_args()
    if (given.command == "unseal") != (given.to is not None) or (given.to and given.to.exists()):
        parser.error("unseal, and only unseal, takes --to, a folder that isn't there yet")
    root = given.directory
    try:
        manifest = read_manifest(root, given)
        check_listing(root, manifest)
        if given.command == "verify":
            for name in objects(manifest):
                SealedObject(root, name, manifest).copy()
        else:
            key = data_key(given.key_file, manifest)
            files = read_index(root, manifest, key)
            if given.command == "unseal":
                unseal(root, manifest, files, key, given.to)
            for file in files:
                print(f"{file['mode']:04o} {file['size']:>15} {ascii(file['name'])[1:-1]}")
    except RefusedError as error:
        print(f"refused: {error.args[0]}: {error.args[1]}", file=sys.stderr)
        return 1
    if not given.publisher:
        print("nobody's signature was checked: give --publisher", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
