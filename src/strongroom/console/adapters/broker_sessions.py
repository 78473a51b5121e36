"""The broker, as the console reaches it: logins without a certificate, and a session for each person signed in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from strongroom.client.adapters.http import HttpTransport, mutual_tls, one_sided_tls
from strongroom.client.adapters.session_files import new_session
from strongroom.client.api import Transport
from strongroom.client.login import LoginApi
from strongroom.core.ids import PersonId


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSessions:
    """A :class:`strongroom.console.signing_in.Broker`."""

    url: str
    identity_url: str
    authority: Path

    @contextmanager
    def login(self) -> Iterator[LoginApi]:
        """Open the routes of a login; the connection ends with it, also where a stranger begins one and goes away."""
        with HttpTransport(self.identity_url, one_sided_tls(authority=self.authority)) as transport:
            yield LoginApi(transport)

    def new_session(self, person: PersonId) -> tuple[bytes, bytes]:
        """Make a session key (PEM) and the certificate request by it (DER)."""
        made = new_session(person)
        return made.key, made.request

    def connect(self, key: bytes, certificate: bytes) -> tuple[Transport, Callable[[], None]]:
        """Connect with a session's key and certificate; neither touches a disk."""
        # OpenSSL reads keys from files alone: these are in memory, and gone when they were read.
        handles = [os.memfd_create("session", os.MFD_CLOEXEC) for _ in range(2)]
        try:
            for handle, data in zip(handles, (certificate, key), strict=True):
                os.write(handle, data)
            shown = [Path(f"/proc/self/fd/{handle}") for handle in handles]
            context = mutual_tls(authority=self.authority, certificate=shown[0], key=shown[1])
        finally:
            for handle in handles:
                os.close(handle)
        transport = HttpTransport(self.url, context)
        return transport, transport.close
