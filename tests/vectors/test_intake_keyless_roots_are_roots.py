"""A trusted root that can't be read is the operator's mistake: it is said at the beginning, and refuses no delivery."""

from __future__ import annotations

import json

import pytest

from strongroom.core.errors import MalformedError
from strongroom.intake.adapters.trust import Trust, check_trust
from support.vectors import vectors_folder

pytest.importorskip("sigstore")


_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
_EMPTY: dict[str, list[str]] = {"tlogs": [], "certificateAuthorities": [], "ctlogs": [], "timestampAuthorities": []}
_ROOTS = [
    b"{",
    b"[]",
    b"{}",
    b"\xff",
    *(
        json.dumps(one).encode()
        for one in ({"mediaType": _TYPE}, {"mediaType": "x", **_EMPTY}, {"mediaType": _TYPE, **_EMPTY})
    ),
]


@pytest.mark.parametrize("root", _ROOTS)
def test_what_is_no_trusted_root_is_said_before_a_delivery_begins(root: bytes) -> None:
    bundle = (vectors_folder("oms") / "v1.0" / "valid" / "sigstore.bundle.json").read_bytes()
    with pytest.raises(MalformedError):
        check_trust(bundle, Trust(trusted_root=root, identity="a@supplier.example", issuer="https://issuer.example"))
