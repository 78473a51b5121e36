"""A drop's digest, which all see, tells nothing to whoever can guess the drop; the same drop has the same one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import MAX_INTEGER
from strongroom.core.digest import Digest
from strongroom.egress.archive import Archive, ArchivedFile
from strongroom.enclave.drop.blinding import blinding_facts, blinding_key

KEYS = st.binary(min_size=32, max_size=32)


def blinded(content: bytes, data_key: bytes | bytearray, request: bytes) -> Digest:
    plain = Archive.of([ArchivedFile("secret", content)], {"code": 0})
    facts = blinding_facts(blinding_key(data_key, Digest.of(request)), Digest.of(plain.to_bytes()))
    assert all(0 <= value <= MAX_INTEGER for value in facts.values())
    return Digest.of(Archive(files=plain.files, facts={**plain.facts, **facts}).to_bytes())


@given(content=st.binary(max_size=40), key=KEYS, other=KEYS, request=st.binary(max_size=8), later=st.binary(max_size=8))
def test_nobody_without_the_data_key_knows_it_beforehand(
    content: bytes, key: bytes, other: bytes, request: bytes, later: bytes
) -> None:
    seen = blinded(content, key, request)
    assert blinded(content, bytearray(key), request) == seen
    assert (blinded(content, other, request) == seen) is (other == key)
    assert (blinded(content, key, later) == seen) is (later == request)
    assert Digest.of(Archive.of([ArchivedFile("secret", content)], {"code": 0}).to_bytes()) != seen
