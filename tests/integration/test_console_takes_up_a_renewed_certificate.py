"""The console's certificate is renewed while it serves; half a renewal changes nothing."""

from __future__ import annotations

import asyncio
import ssl
import time
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.console import wiring
from strongroom.console.wiring import CERTIFICATE, KEY, take_up_renewals, tls_context

pytestmark = pytest.mark.integration


def served(context: ssl.SSLContext, authority: bytes) -> bytes:
    """Return the certificate (DER) that a new connection is shown; the bytes go through memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    trusting = ssl.create_default_context(cadata=authority.decode())
    client = trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def test_a_new_pair_is_served_and_half_of_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "RELOAD_SECONDS", 0.01)
    now = int(time.time())
    authority = DevCa.create(tmp_path / "ca", "test", at=now)
    pairs = [authority.issue_server(("localhost",), at=now, life=timedelta(days=days)) for days in (1, 2, 3)]

    def put(certificate: bytes, key: bytes) -> None:
        (tmp_path / CERTIFICATE).write_bytes(certificate)
        (tmp_path / KEY).write_bytes(key)

    async def renew() -> None:
        put(pairs[0].certificate, pairs[0].private_key)
        context = tls_context(tmp_path)
        task = asyncio.create_task(take_up_renewals(tmp_path, context))
        first = served(context, authority.certificate)
        put(pairs[1].certificate, pairs[0].private_key)
        await asyncio.sleep(0.1)
        assert served(context, authority.certificate) == first
        put(pairs[2].certificate, pairs[2].private_key)
        for _ in range(500):
            await asyncio.sleep(0.01)
            if served(context, authority.certificate) != first:
                break
        assert served(context, authority.certificate) == ssl.PEM_cert_to_DER_cert(pairs[2].certificate.decode())
        assert not task.done()
        task.cancel()

    asyncio.run(renew())
