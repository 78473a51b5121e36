"""Names of people that stand in groups: each is kept under the key of whom it names, and falls with it.

A provider writes a member's display name into the group (RFC 7643 section 4.2). Kept as it came, the name would outlive
the person's erasure in every copy of the group.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.broker.people.ports import Entropy
from strongroom.broker.people.records import NONCE_BYTES

KeyOf = Callable[[str], AESGCM | None]
_BINDING: Final = b"strongroom people name v1\x00"


def hide(group: str, resource: str, key_of: KeyOf, entropy: Entropy) -> str:
    """Return a group's JSON with each member's display name encrypted; names of unknown members are left out."""
    return _each(resource, lambda member, name: _seal(group, member, name, key_of(member), entropy))


def reveal(group: str, resource: str, key_of: KeyOf) -> str:
    """Return a group's JSON as it came, without the names of members whose key is gone."""
    return _each(resource, lambda member, name: _open(group, member, name, key_of(member)))


def _each(resource: str, change: Callable[[str, str], str | None]) -> str:
    data: dict[str, Any] = json.loads(resource)
    members = data.get("members")
    for member in members if isinstance(members, list) else ():
        value, name = member.get("value"), member.pop("display", None)
        changed = change(value, name) if isinstance(value, str) and isinstance(name, str) else None
        if changed is not None:
            member["display"] = changed
    return json.dumps(data, separators=(",", ":"))


def _seal(group: str, member: str, name: str, key: AESGCM | None, entropy: Entropy) -> str | None:
    if key is None:
        return None
    nonce = entropy(NONCE_BYTES)
    data = key.encrypt(nonce, name.encode("utf-8", "surrogatepass"), _bound(group, member))
    return base64.b64encode(nonce + data).decode("ascii")


def _open(group: str, member: str, name: str, key: AESGCM | None) -> str | None:
    if key is None:
        return None
    try:
        data = base64.b64decode(name, validate=True)
        plain = key.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _bound(group, member))
        return plain.decode("utf-8", "surrogatepass")
    except (InvalidTag, binascii.Error, ValueError):
        return None


def _bound(group: str, member: str) -> bytes:
    return _BINDING + group.encode() + b"\x00" + member.encode("utf-8", "surrogatepass")
