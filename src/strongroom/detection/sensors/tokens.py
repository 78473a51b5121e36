"""Canarytokens' webhook: somebody used a credential, or a name, that is valid nowhere else."""

from __future__ import annotations

from typing import Final

from strongroom.detection.sensors.reading import Read, child, event, read_object, text, unknown

_TRIAL: Final = "http://example.com/test/url/for/webhook"
"""What the ``manage_url`` of the message is that tries a webhook when somebody saves it. Nobody used anything."""


def read_canarytoken(body: bytes) -> Read:
    """Read the body of a Canarytokens webhook (github.com/thinkst/canarytokens, ``TokenAlertDetails``).

    Its ``memo`` is what whoever planted the token typed: the credential's name in our words.

    :raises MalformedError: not a body of theirs.
    """
    told = read_object(body)
    if text(told, "manage_url") == _TRIAL:
        return unknown("a webhook's trial")
    if text(told, "exposed_time"):
        # ``TokenExposedDetails``: the credential was seen in public. Its owner may have put it there.
        return unknown("seen in public")
    memo, client = text(told, "memo").strip(), text(told, "src_ip") or text(child(told, "additional_data"), "src_ip")
    if not memo or not text(told, "manage_url") or not (text(told, "token") or text(told, "channel")):
        return unknown(text(told, "channel") or "no token")
    made = event("identity:credential:used", "canarytokens", credential=memo, decoy=True, client=client)
    return Read(events=(made,))
