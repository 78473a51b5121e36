"""``strongroom attestation result``: what a signed attestation result says, for whoever was shown one."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.attestation.ear import MAX_TOKEN, Ear, verify
from strongroom.attestation.isolation import caps
from strongroom.attestation.trust_vector import TrustTier
from strongroom.cli import files
from strongroom.cli.attestation_words import line
from strongroom.cli.output import end, show
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant, parse_instant
from strongroom.core.errors import ExitCode, MalformedError, UsageError
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey


@click.command("result")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key",
    "keys",
    multiple=True,
    required=True,
    help="A keeper's public key, `ed25519:...`, or a file that holds one. Only its tokens are believed.",
)
@click.option("--at", "at_text", help="Judge as of this time, 2026-01-15T00:00:00Z. Default: now.")
@files.json_option
def result(file: Path, keys: tuple[str, ...], at_text: str | None, *, as_json: bool) -> None:
    """Check the token in FILE and say what it says. Ends with 0 when it affirms the platform, 3 when it doesn't.

    Whoever shows a token must prove besides that they hold the recipient key in it: a token can be copied.
    """
    data = files.read_file(file, most=MAX_TOKEN + 2)
    try:
        token = data.decode("ascii").strip("\r\n")
    except UnicodeDecodeError:
        raise MalformedError(f"`{file.name}` holds no token") from None
    ear = verify(token, [_key(one) for one in keys], _instant(at_text))
    affirmed = ear.tier is TrustTier.AFFIRMING
    show(_json(ear), _lines(ear), as_json=as_json)
    if not affirmed:
        end(ExitCode.DENIED)


def _key(named: str) -> PublicKey:
    if ":" not in named:
        data = files.read_file(Path(named), most=2 * MAX_KEY_TEXT)
        named = data.decode("ascii", errors="replace").strip()
    return PublicKey.parse(named)


def _instant(text: str | None) -> int:
    if text is None:
        return SystemClock().now()
    try:
        return parse_instant(text)
    except MalformedError as error:
        raise UsageError(f"`--at`: {error.message}") from None


def _lines(ear: Ear) -> list[str]:
    told = [
        line("result", f"{ear.tier}, {ear.status}"),
        line("platform", f"{ear.platform}, image {ear.image or 'none'}"),
        line("class", f"{ear.isolation}: up to {caps(ear.isolation)}" + ", SIMULATED" * ear.isolation.simulated),
        line("appraised", format_instant(ear.appraised)),
        line("holds", f"from {format_instant(ear.issued)} to {format_instant(ear.expires)}"),
        line("issuer", ear.key_id),
        line("recipient", str(ear.recipient_key or "none")),
    ]
    for name, one in ear.submodules.items():
        looked_at = ", ".join(f"{aspect} {value}" for aspect, value in one.vector.values.items() if value)
        told.append(line(name, f"{one.tier}: {looked_at or 'nothing was looked at'}"))
    return told


def _json(ear: Ear) -> Json:
    return {
        "v": 1,
        "status": ear.tier.value,
        "appraisal": ear.status.value,
        "platform": ear.platform,
        "image": ear.image,
        "isolation": ear.isolation.value,
        "appraised": format_instant(ear.appraised),
        "issued": format_instant(ear.issued),
        "expires": format_instant(ear.expires),
        "issuer": ear.key_id,
        "nonce": ear.nonce.hex(),
        "recipient_key": str(ear.recipient_key) if ear.recipient_key else None,
        "evidence": str(ear.evidence),
        "reference_values": str(ear.reference_values) if ear.reference_values else None,
        "collateral": str(ear.collateral) if ear.collateral else None,
        "submodules": {
            name: {"status": one.tier.value, "vector": one.vector.to_json(), "policies": [*one.policies]}
            for name, one in ear.submodules.items()
        },
    }
