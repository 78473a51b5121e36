"""What a person signs to open a session: whose it is, for which deployment, and the key that it will be held by.

The identity provider alone can't open one: it would take the person's own key too. A session grants nothing; it is
held so tightly because who calls as somebody else learns what they are asked for.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import payload_type
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id

LOGIN_TYPE: Final = payload_type("login.v1")
MAX_CHALLENGE: Final = 64
MAX_LOGIN: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login's payload. ``certificate_request`` and ``id_token`` are digests of exactly what goes with it.

    So neither a stolen ID token, nor one slipped in on the way, opens a session for another key.
    """

    genesis: Digest
    person: PersonId
    challenge: bytes
    """What the deployment asked to be signed: used once, and for minutes."""
    certificate_request: Digest
    id_token: Digest | None

    @classmethod
    def parse(cls, payload: bytes) -> Login:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=MAX_LOGIN), "login") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                person=fields.parsed("person", person_id),
                challenge=fields.binary("challenge", max_length=MAX_CHALLENGE),
                certificate_request=fields.digest("certificate_request"),
                id_token=fields.digest("id_token") if fields.optional("id_token") else None,
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are signed."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "person": self.person,
                "challenge": to_base64(self.challenge),
                "certificate_request": str(self.certificate_request),
                "id_token": str(self.id_token) if self.id_token else None,
            }
        )


def nonce_of(challenge: bytes) -> str:
    """Return the OpenID ``nonce`` of a challenge: base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(challenge).rstrip(b"=").decode("ascii")
