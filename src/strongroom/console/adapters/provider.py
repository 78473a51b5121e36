"""The identity provider, as the console sends people there: the client's own flow, with the console's address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from strongroom.client.adapters.oidc import OidcClient
from strongroom.client.login import LoginFailedError, ProviderTold
from strongroom.core.printable import printable

BACK = "/sign-in/back"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedProvider:
    """A :class:`strongroom.console.signing_in.Provider`: one issuer, and no other that a broker might name."""

    issuer: str
    origin: str
    authority: Path | None

    def address(self, told: ProviderTold, nonce: str, *, verifier: str, state: str) -> str:
        """Return where the person logs in."""
        with self._client(told) as client:
            return client.address(nonce, verifier=verifier, state=state, redirect=self.origin + BACK)

    def redeem(self, told: ProviderTold, query: str, *, verifier: str, state: str) -> str:
        """Return the ID token for the query that the person's browser came back with."""
        with self._client(told) as client:
            return client.redeem(query, verifier=verifier, state=state, redirect=self.origin + BACK)

    def _client(self, told: ProviderTold) -> OidcClient:
        if told.issuer != self.issuer:
            # A broker in other hands could name a provider that looks the same, to collect passwords.
            raise LoginFailedError(
                f"the deployment names the issuer `{printable(told.issuer)}`, and this console knows"
                f" `{self.issuer or 'none'}`",
                remedy="start the console with --issuer, as those who run the deployment told it",
            )
        return OidcClient(told, secret=None, authority=self.authority)
