"""Whatever names a key service, is stored of a root key, or is answered by a service: read, or refused as ours."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.targets.keys import KEYS, URIS


@given(st.binary(max_size=300))
@example(b"[" * 100_000)
@example(b'{"data": ' + b"[" * 60_000)
def test_any_bytes(data: bytes) -> None:
    for target in KEYS.values():
        target(data)


@given(st.sampled_from(URIS), st.text(max_size=40), st.integers(0, 80))
def test_any_text_within_a_uri(uri: str, text: str, at: int) -> None:
    KEYS["key-uri"]((uri[:at] + text + uri[at:]).encode("utf-8", "replace"))
