"""The keeper's operations on platforms and on what evidence is judged with (:mod:`strongroom.keeper.routes`).

enrol-begin   {enrolment}                 -> {session, credential_blob, encrypted_secret, platform, isolation}
enrol-finish  {session, answer}           -> {platform}            the signed record
chip-begin    {kind}                      -> {session, nonce, expires}
chip-finish   {session, evidence}         -> {platform}            the signed record
collateral    {skip, count}               -> {digest, lost, count, items}
import-collateral {by, bundle, size, offset, part} -> {received, imported}   the last part imports the bundle
"""

from __future__ import annotations

from typing import Final

from strongroom.attestation.bundle.format import MAX_BUNDLE
from strongroom.attestation.collateral import MAX_ITEMS
from strongroom.attestation.enrolment import MAX_REQUEST, EnrolmentRequest
from strongroom.attestation.evidence import MAX_BODY
from strongroom.attestation.kinds import EvidenceKind
from strongroom.core.clock import format_instant
from strongroom.core.encoding import to_base64
from strongroom.core.fields import Fields
from strongroom.core.ids import person_id
from strongroom.keeper.collateral import MAX_PART, CollateralRegistry, Imported
from strongroom.keeper.registry import PlatformRegistry
from strongroom.keeper.route_parts import Answer, Route

MAX_SHOWN: Final = 512
"""Items of collateral in one answer."""


class PlatformRoutes:
    """Serves enrolments and collateral."""

    def __init__(self, platforms: PlatformRegistry, collateral: CollateralRegistry) -> None:
        self._platforms = platforms
        self._collateral = collateral
        self.routes: dict[str, Route] = {
            "enrol-begin": self._enrol_begin,
            "enrol-finish": self._enrol_finish,
            "chip-begin": self._chip_begin,
            "chip-finish": self._chip_finish,
            "collateral": self._show_collateral,
            "import-collateral": self._import_collateral,
        }

    async def _enrol_begin(self, fields: Fields) -> Answer:
        request = EnrolmentRequest.parse(fields.binary("enrolment", max_length=MAX_REQUEST))
        fields.end()
        opened = self._platforms.begin(request)
        return {
            "session": opened.session,
            "credential_blob": to_base64(opened.pending.credential.blob),
            "encrypted_secret": to_base64(opened.pending.credential.encrypted_seed),
            "platform": opened.pending.facts.platform,
            "isolation": opened.pending.facts.isolation.value,
        }

    async def _enrol_finish(self, fields: Fields) -> Answer:
        session, answer = fields.text("session", max_length=64), fields.binary("answer", max_length=64)
        fields.end()
        return {"platform": (await self._platforms.finish(session, answer)).to_json()}

    async def _chip_begin(self, fields: Fields) -> Answer:
        kind = fields.parsed("kind", EvidenceKind)
        fields.end()
        opened = self._platforms.begin_chip(kind)
        return {
            "session": opened.session,
            "nonce": to_base64(opened.pending.binding.nonce),
            "expires": format_instant(opened.pending.expires),
        }

    async def _chip_finish(self, fields: Fields) -> Answer:
        session, evidence = fields.text("session", max_length=64), fields.binary("evidence", max_length=MAX_BODY)
        fields.end()
        return {"platform": (await self._platforms.finish_chip(session, evidence)).to_json()}

    async def _show_collateral(self, fields: Fields) -> Answer:
        skip, count = fields.integer("skip", most=MAX_ITEMS), fields.integer("count", least=1, most=MAX_SHOWN)
        fields.end()
        held = self._collateral.held(skip=skip, count=count)
        return {
            "digest": str(self._collateral.digest),
            "lost": self._collateral.lost,
            "count": self._collateral.count,
            "items": [one.to_json() for one in held],
        }

    async def _import_collateral(self, fields: Fields) -> Answer:
        by, bundle = fields.parsed("by", person_id), fields.digest("bundle")
        size, offset = fields.integer("size", most=MAX_BUNDLE), fields.integer("offset", most=MAX_BUNDLE)
        part = fields.binary("part", max_length=MAX_PART)
        fields.end()
        came = await self._collateral.receive(by, bundle=bundle, size=size, offset=offset, part=part)
        if not isinstance(came, Imported):
            return {"received": came, "imported": None}
        return {
            "received": size,
            "imported": {
                "index": came.recorded.index if came.recorded else None,
                "digest": str(came.digest),
                "items": came.items,
                "added": came.added,
                "replaced": came.replaced,
            },
        }
