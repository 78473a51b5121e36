"""``strongroom attribute``: whose marked copy is a file that turned up?"""

from __future__ import annotations

import math
from pathlib import Path

import click

from strongroom.cli.output import show, table
from strongroom.cli.reseal import require_export
from strongroom.cli.sealed import identity_option
from strongroom.cli.session import as_wallet, ask_passphrase, json_option, passphrase_option, session
from strongroom.client.resealing import Exported, exported_key, forget_exported
from strongroom.client.wiring import plain_file
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.ids import ModelId, model_id
from strongroom.core.secret import SecretBytes
from strongroom.intake.adapters.leaked_files import Leak, open_leak
from strongroom.intake.marks.marking import CopyName
from strongroom.intake.marks.score import Finding, Original, compare
from strongroom.keys.adapters.identity_file import open_identity
from strongroom.sealing.adapters.directory import open_directory, read_envelope
from strongroom.sealing.index import SealedFile
from strongroom.sealing.manifest import ManifestExpectation, verify_manifest
from strongroom.sealing.model import OpenedModel


@click.command("attribute")
@click.argument("digest")
@click.argument("sealed", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("found", type=click.Path(path_type=Path, exists=True))
@click.option("--also", multiple=True, help="A copy that the policy names no more. Repeatable.")
@identity_option
@as_wallet
@passphrase_option
@json_option
def attribute(
    *,
    digest: str,
    sealed: Path,
    found: Path,
    also: tuple[str, ...],
    identity: Path,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Use the export grant of request DIGEST: tell whose marked copy of the model in SEALED the leaked FOUND is.

    SEALED is the unmarked original; it is opened in memory, and nothing of it is written. FOUND is read and not loaded:
    safetensors, torch checkpoints and NumPy arrays of floating point.
    """
    recipient = open_identity(identity, ask_passphrase(passphrase_fd))
    with session(wallet, passphrase_fd) as person, open_leak(found) as leak:
        review = person.review(person.find(digest))
        require_export(review.request, sealed, recipient.digest)
        _roster, policy = review.trust.require_documents()
        genesis = person.wallet.genesis().digest
        copies = sorted({*policy.copies_of(review.request.model), *map(model_id, also)})
        if not copies:
            raise UsageError(
                f"the policy names no marked copies of `{review.request.model}`", remedy="name them with --also"
            )
        # A file of which nothing is read must not cost the grant.
        if not leak.tensors:
            raise UsageError(f"`{found}` holds no floating-point tensors that are read", remedy=_skipped(leak))
        exported, data_key = exported_key(person, review.request, recipient)
        finding = _compared(sealed, genesis, (exported, data_key), leak, copies)
        forget_exported(person, review.request)
    show(_data(review.request.model, finding, leak), _text(review.request.model, finding, leak), as_json=as_json)


def _compared(
    sealed: Path, genesis: Digest, key: tuple[Exported, SecretBytes], leak: Leak, copies: list[ModelId]
) -> Finding:
    exported, data_key = key
    with data_key:
        expect = ManifestExpectation(
            genesis=genesis, model=exported.model, version=exported.version, digest=exported.manifest
        )
        manifest = verify_manifest(read_envelope(sealed), exported.publisher_key, expect=expect)
        with open_directory(sealed, data_key=data_key, manifest=manifest) as model:
            originals = [_original(model, file) for file in model.files()]
            return compare(originals, leak.tensors, [CopyName(genesis, copy) for copy in copies])


def _original(model: OpenedModel, file: SealedFile) -> Original:
    return Original(plain_file(model, file), lambda: model.chunks(file.name))


def _skipped(leak: Leak) -> str:
    return "; ".join(f"{ascii(name)[1:-1]}: {why}" for name, why in sorted(leak.skipped.items())[:8])


def _data(model: ModelId, finding: Finding, leak: Leak) -> Json:
    scores: list[Json] = [
        {
            "copy": one.copy,
            "z": f"{one.z:.2f}",
            "log10_chance": math.ceil(one.chance),
            "tensors": one.tensors,
            "named": one.accused,
        }
        for one in finding.scores
    ]
    skipped: dict[str, Json] = dict(leak.skipped)
    return {
        "model": model,
        "tensors": finding.tensors,
        "tensors_in_all": finding.tensors_in_all,
        "values": finding.places,
        "values_changed": finding.changed,
        "scores": scores,
        "named": [one.copy for one in finding.scores if one.accused],
        "skipped": skipped,
    }


def _text(model: ModelId, finding: Finding, leak: Leak) -> list[str]:
    rows = [
        (one.copy, f"{one.z:.1f}", str(one.tensors), _odds(one.chance), "NAMED" if one.accused else "")
        for one in finding.scores
    ]
    named = [one.copy for one in finding.scores if one.accused]
    said = f"it is made from {', '.join(named)}" if named else "it names nobody"
    if not finding.changed:
        said = f"at no place does it differ from `{model}`: these are the unmarked weights"
    lines = [
        said,
        f"{finding.tensors} of {finding.tensors_in_all} marked tensors were found",
        f"{finding.changed} of {finding.places} values differ from the original",
        "",
        table(rows, ("COPY", "Z", "TENSORS", "IF INNOCENT", "")),
    ]
    if leak.skipped:
        lines += ["", f"not read: {_skipped(leak)}"]
    return lines


def _odds(chance: float) -> str:
    return "as likely as not" if chance > -1 else f"at most 1 in 10^{math.floor(-chance)}"
