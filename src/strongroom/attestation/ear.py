"""EAT Attestation Results (draft-ietf-rats-ear-04): an attestation result, signed, for whoever wasn't there.

A JWT in the compact serialisation of a JWS: ``alg`` is ``Ed25519`` (RFC 9864), ``typ`` ``eat+jwt`` (RFC 9782), ``kid``
the signing key's id. The claims, and what stands behind each value, are in docs/spec/attestation-results.md.

The key also signs DSSE envelopes. What a JWS signs is base64url and one dot, and begins ``eyJ``; what DSSE signs begins
``DSSEv1`` and a blank. No blank is base64url, so no bytes are both, and a token can't be passed off as a release.

``verify`` does, in this order:

1. size, three parts, each in base64url's one spelling    4. the signature, over the raw text
2. the header: exactly alg, kid, typ, with these values   5. the profile
3. the key is one that the caller believes                6. issued by then, not expired, no longer than an hour
7. the claims
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from strongroom import __version__
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.results import AttestationResult, Status, SubmoduleResult
from strongroom.attestation.trust_vector import TrustTier, TrustVector, tier, trust_vector
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, MalformedError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import ImageId, KeyId, PlatformId, image_id, platform_id
from strongroom.core.signature import PublicKey, SignatureAlgorithm, Signer

T = TypeVar("T")

EAR_PROFILE: Final = "tag:ietf.org,2026:rats/ear#04"
"""What draft-ietf-rats-ear-04, section 3, demands of every EAR."""
OUR_PROFILE: Final = "urn:strongroom:ear:v1"
"""The profile of each submodule, and the name of the claim that holds what EAR has no claim for."""
POLICY_PREFIX: Final = "urn:strongroom:appraisal-policy:"
DEVELOPER: Final = "strongroom"
ALGORITHM: Final = "Ed25519"
TYPE: Final = "eat+jwt"
LIFETIME: Final = 300
MAX_LIFETIME: Final = 3600
MAX_SKEW: Final = 60
"""Seconds that the issuer's clock may be ahead."""
MAX_TOKEN: Final = 256 * 1024
MAX_SUBMODULES: Final = 32
_SIGNATURE_BYTES: Final = 64
_MAX_TIME: Final = 253402300799


class EarRefusedError(DeniedError):
    """A token that proves nothing. ``reason`` is the failed step's code."""

    code = "ear-refused"


class NotAffirmingError(DeniedError):
    """A genuine token, and what it says isn't that the platform is trusted."""

    code = "ear-not-affirming"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarSubmodule:
    """What a token says of one statement."""

    tier: TrustTier
    vector: TrustVector
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """A verified token's claims. That it is genuine doesn't make it good news: call :meth:`require_affirming`."""

    key_id: KeyId
    issued: Instant
    expires: Instant
    tier: TrustTier
    submodules: Mapping[str, EarSubmodule]
    nonce: bytes
    """The challenge's nonce."""
    platform: PlatformId
    image: ImageId | None
    status: Status
    isolation: IsolationClass
    recipient_key: Digest | None
    """SHA-256 of the key that the evidence binds: who holds that key is who was attested."""
    evidence: Digest
    reference_values: Digest | None
    collateral: Digest | None
    appraised: Instant

    def require_affirming(self) -> ImageId:
        """Return the image; anything short of an affirmed platform is refused, simulated ones always.

        :raises NotAffirmingError: the token says something else.
        """
        if self.tier is not TrustTier.AFFIRMING or self.status is not Status.WANTED or self.image is None:
            raise NotAffirmingError(
                f"the token says `{self.tier}` of the platform `{self.platform}`, class `{self.isolation}`",
                remedy="read its trustworthiness vectors: 96 and above is what was refused",
            )
        return self.image


def issue(
    result: AttestationResult,
    signer: Signer,
    at: Instant,
    lifetime: int = LIFETIME,
    *,
    collateral: Digest | None = None,
) -> str:
    """Return the signed token for a result, whatever the result says; it ends when an endorsement does, at the latest.

    ``lifetime`` is in seconds, 1 to an hour.

    :raises UsageError: nothing was appraised, an endorsement has ended, another lifetime, or a key that isn't Ed25519.
    :raises MalformedError: the token would be too large to be read.
    """
    if signer.public_key.algorithm is not SignatureAlgorithm.ED25519:
        raise UsageError("an attestation result is signed with an Ed25519 key")
    if not 1 <= lifetime <= MAX_LIFETIME:
        raise UsageError(f"an attestation result lives 1 to {MAX_LIFETIME} seconds")
    if not result.submodules:
        raise UsageError("nothing was appraised: there is no attestation result to sign")
    expires = at + lifetime if result.endorsed_until is None else min(at + lifetime, result.endorsed_until)
    if expires <= at:
        raise UsageError("what the attestation result rests on has ended: appraise new evidence")
    header: dict[str, Json] = {"alg": ALGORITHM, "kid": str(signer.public_key.key_id), "typ": TYPE}
    claims = {**_claims(result, collateral), "iat": at, "exp": expires}
    signing_input = f"{_text(encode(header))}.{_text(encode(claims))}"
    token = f"{signing_input}.{_text(signer.sign(signing_input.encode()))}"
    if len(token) > MAX_TOKEN:
        raise MalformedError(f"the attestation result has {len(token)} bytes as a token; at most {MAX_TOKEN} are read")
    return token


def verify(token: str, keys: Iterable[PublicKey], at: Instant) -> Ear:
    """Check a token as of ``at`` against the keys that are believed, and return its claims.

    Claims of other names are ignored, as the draft demands; our own claim has no others.

    :raises EarRefusedError: a step fails; ``reason`` is ``ear-malformed``, ``ear-algorithm``, ``ear-unknown-key``,
        ``ear-profile``, ``ear-not-yet``, ``ear-expired`` or ``ear-lifetime``.
    :raises SignatureError: the key didn't sign this.
    """
    # 1.
    header_text, claims_text, signature_text = _parts(token)
    header_bytes, claims_bytes, signature = map(_bytes, (header_text, claims_text, signature_text))
    # 2. and 3. The algorithm is this one and no other: the header chooses nothing.
    key = _key(_object(header_bytes, "header"), keys)
    # 4. Before anything in the claims is looked at.
    if len(signature) != _SIGNATURE_BYTES:
        raise _malformed("the token's signature has another length than Ed25519's")
    key.verify(signature, f"{header_text}.{claims_text}".encode())
    claims = _object(claims_bytes, "claims")
    # 5.
    if claims.get("eat_profile") != EAR_PROFILE:
        raise EarRefusedError(f"the token's profile isn't `{EAR_PROFILE}`", reason="ear-profile")
    try:
        # 6. and 7.
        return _read(Fields(claims, "ear"), key.key_id, at)
    except MalformedError as error:
        raise _malformed(error.message) from None


def _claims(result: AttestationResult, collateral: Digest | None) -> dict[str, Json]:
    policies: list[Json] = [f"{POLICY_PREFIX}{result.policy}"] if result.policy else []
    submodules: dict[str, Json] = {}
    tiers = []
    for number, one in enumerate(result.submodules):
        # What concerns the platform as a whole is its own statement's to answer for, and that one comes first.
        main = number == 0
        judged = replace(one, isolation=_isolation(one, result)) if main else one
        vector = trust_vector(judged, result.claims if main else ())
        found = tier(judged, vector)
        tiers.append(found)
        submodules[one.name] = _submodule(judged, vector, found, policies)
    overall = TrustTier.worst(tiers)
    if result.status is not Status.WANTED and overall in {TrustTier.AFFIRMING, TrustTier.WARNING}:
        overall = TrustTier.CONTRAINDICATED
    claims: dict[str, Json] = {
        "eat_profile": EAR_PROFILE,
        "ear_status": overall.value,
        "ear_verifier_id": {"developer": DEVELOPER, "build": f"strongroom {__version__}"},
        "submods": submodules,
        OUR_PROFILE: _ours(result, collateral),
    }
    if result.nonce:
        claims["eat_nonce"] = _text(result.nonce)
    if devices := [one.name for one in result.submodules[1:]]:
        claims["ear_device_topology"] = {result.submodules[0].name: [*devices]}
    return claims


def _isolation(main: SubmoduleResult, result: AttestationResult) -> IsolationClass:
    # The platform's record or root can make it weaker than the evidence alone would be.
    return main.isolation.weaker(result.isolation) if result.status is Status.WANTED else main.isolation


def _submodule(one: SubmoduleResult, vector: TrustVector, found: TrustTier, policies: list[Json]) -> Json:
    # The chip's own identity stays out: whoever gets a token needn't learn which chip it was. The platform's id is its
    # digest.
    verifier: dict[str, Json] = {
        "status": one.status.value,
        "reason": one.reason,
        "isolation": one.isolation.value,
        "evidence": str(one.evidence),
        "failed": [claim.name for claim in one.failed],
    }
    told: dict[str, Json] = {
        "eat_profile": OUR_PROFILE,
        "ear_status": found.value,
        "ear_trustworthiness_vector": vector.to_json(),
        "ear_attester_claims": {"kind": one.kind.value, "measurements": dict(one.measurements)},
        "ear_verifier_claims": verifier,
    }
    if policies:
        told["ear_appraisal_policy_ids"] = [*policies]
    return told


def _ours(result: AttestationResult, collateral: Digest | None) -> Json:
    return {
        "platform": result.platform,
        "image": result.image,
        "status": result.status.value,
        "isolation": result.isolation.value,
        "recipient_key": _or_none(result.recipient_key),
        "evidence": str(result.evidence),
        "reference_values": _or_none(result.reference_values),
        "collateral": _or_none(collateral),
        "appraised": format_instant(result.at),
    }


def _or_none(digest: Digest | None) -> str | None:
    return str(digest) if digest else None


def _parts(token: str) -> tuple[str, str, str]:
    if len(token) > MAX_TOKEN:
        raise _malformed(f"the token has {len(token)} characters; at most {MAX_TOKEN} are read")
    parts = token.split(".")
    if len(parts) != 3:
        raise _malformed("a token is three parts with dots between them")
    return parts[0], parts[1], parts[2]


def _key(header: dict[str, Json], keys: Iterable[PublicKey]) -> PublicKey:
    if header.get("alg") != ALGORITHM:
        raise EarRefusedError(
            f"the token isn't signed with `{ALGORITHM}`, as RFC 9864 names it", reason="ear-algorithm"
        )
    if set(header) != {"alg", "kid", "typ"} or header["typ"] != TYPE:
        # `jwk`, `x5c` or `crit`, say: a header that brings its own key or rules is refused, not ignored.
        raise _malformed(f"the token's header is `alg`, `kid` and `typ`, and `typ` is `{TYPE}`")
    for key in keys:
        if key.key_id == header["kid"] and key.algorithm is SignatureAlgorithm.ED25519:
            return key
    raise EarRefusedError(
        "the token is signed by a key that isn't believed",
        reason="ear-unknown-key",
        remedy="name the public key of the keeper that issued it: `strongroom status` shows it",
    )


def _read(fields: Fields, key_id: KeyId, at: Instant) -> Ear:
    issued = fields.integer("iat", most=_MAX_TIME)
    expires = fields.integer("exp", most=_MAX_TIME)
    _in_time(issued, expires, at)
    with fields.child("ear_verifier_id") as verifier:
        verifier.text("developer")
        verifier.text("build")
    submodules = _submodules(fields.child("submods"))
    overall = fields.parsed("ear_status", TrustTier)
    if overall is not TrustTier.worst((overall, *(one.tier for one in submodules.values()))):
        raise MalformedError("`ear.ear_status` is better than its worst submodule")
    nonce = _bytes(fields.text("eat_nonce", max_length=88)) if fields.optional("eat_nonce") else b""
    with fields.child(OUR_PROFILE) as ours:
        return Ear(
            key_id=key_id,
            issued=issued,
            expires=expires,
            tier=overall,
            submodules=submodules,
            nonce=nonce,
            platform=ours.parsed("platform", platform_id),
            image=_optional(ours, "image", lambda name: ours.parsed(name, image_id)),
            status=ours.parsed("status", Status),
            isolation=ours.parsed("isolation", IsolationClass),
            recipient_key=_optional(ours, "recipient_key", ours.digest),
            evidence=ours.digest("evidence"),
            reference_values=_optional(ours, "reference_values", ours.digest),
            collateral=_optional(ours, "collateral", ours.digest),
            appraised=ours.instant("appraised"),
        )


def _in_time(issued: Instant, expires: Instant, at: Instant) -> None:
    if issued > at + MAX_SKEW:
        raise EarRefusedError(f"the token was issued in the future, {format_instant(issued)}", reason="ear-not-yet")
    if expires <= at:
        raise EarRefusedError(f"the token expired, {format_instant(expires)}", reason="ear-expired")
    if not issued < expires <= issued + MAX_LIFETIME:
        # Else whoever can make a verifier sign once has a token for good.
        raise EarRefusedError(f"the token lives longer than {MAX_LIFETIME} seconds", reason="ear-lifetime")


def _submodules(fields: Fields) -> dict[str, EarSubmodule]:
    names = fields.names(most=MAX_SUBMODULES)
    if not names:
        raise MalformedError("`ear.submods` is empty")
    return {name: _read_submodule(fields.child(name)) for name in names}


def _read_submodule(fields: Fields) -> EarSubmodule:
    with fields.child("ear_trustworthiness_vector") as told:
        vector = TrustVector.read(told)
    found = fields.parsed("ear_status", TrustTier)
    if found is not TrustTier.worst((found, vector.tier)):
        raise MalformedError(f"`{fields.where}.ear_status` is better than its worst aspect")
    policies: tuple[str, ...] = ()
    if fields.optional("ear_appraisal_policy_ids"):
        policies = fields.texts("ear_appraisal_policy_ids", most=8)
    return EarSubmodule(tier=found, vector=vector, policies=policies)


def _optional(fields: Fields, name: str, read: Callable[[str], T]) -> T | None:
    return read(name) if fields.optional(name) else None


def _object(data: bytes, what: str) -> dict[str, Json]:
    try:
        value = parse(data, max_bytes=MAX_TOKEN)
    except MalformedError as error:
        raise _malformed(f"the token's {what}: {error.message}") from None
    if not isinstance(value, dict):
        raise _malformed(f"the token's {what} isn't a JSON object")
    return value


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("a part of the token isn't base64url") from None
    # Spare bits, padding, and the other alphabet would be a second spelling of one token.
    if _text(data) != text:
        raise _malformed("a part of the token isn't in base64url's one spelling")
    return data


def _malformed(message: str) -> EarRefusedError:
    return EarRefusedError(message, reason="ear-malformed")
