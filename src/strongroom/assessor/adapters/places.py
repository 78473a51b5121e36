"""Places where weights lie: sealed directories, and folders that are searched for weights in the clear."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from strongroom.assessor.collecting import Look
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.intake.adapters.delivered_folder import OpenFile
from strongroom.intake.adapters.scan_tree import walk
from strongroom.intake.copies.places import Content, content_of
from strongroom.sealing.adapters.directory import inspect_directory
from strongroom.sealing.prelude import Suite

_BITS: Final = {Suite.FLOE_AES_256_GCM_SHA_384: 256}
_BY_CONTENT: Final = frozenset({Content.SAFETENSORS, Content.GGUF, Content.NPY})
_BY_NAME: Final = frozenset({".pt", ".pth", ".ckpt", ".bin", ".npz", ".onnx", ".pkl", ".pickle"})
"""Archives and pickles are weights where they are called so; other archives are no business of this search."""


def place_looks(sealed: Sequence[Path], searched: Sequence[Path], registered: Collection[Digest]) -> Iterator[Look]:
    """Look at sealed directories, and search folders; the sealed directories are searched as well.

    :param registered: digests of the manifests of all versions in the log.
    """
    for folder in sealed:
        yield _copy(folder, registered)
    for folder in dict.fromkeys((*searched, *sealed)):
        yield _search(folder)
    if sealed:
        yield Look(collector="sealing.spread", facts={"places": len({folder.resolve().parent for folder in sealed})})
    else:
        yield Look(collector="sealing.spread", missing="no sealed directory was named")


def _copy(folder: Path, registered: Collection[Digest]) -> Look:
    subject = f"copy:{folder}"
    try:
        found = inspect_directory(folder)
    except (StrongroomError, OSError) as error:
        why = error.message if isinstance(error, StrongroomError) else "it can't be read"
        return Look(
            collector="sealing.copy",
            subject=subject,
            facts={"sealed": False, "registered": False, "cipher_bits": 0, "why": why},
        )
    return Look(
        collector="sealing.copy",
        subject=subject,
        facts={
            "sealed": True,
            "registered": found.digest in registered,
            "cipher_bits": min(_BITS[header.prelude.suite] for header in found.headers.values()),
            "model": found.manifest.model,
            "version": found.manifest.version,
        },
    )


def _search(folder: Path) -> Look:
    clear, unread, files = [], [], 0
    try:
        for met in walk(folder):
            name = "/".join(met.parts)
            if isinstance(met.what, OpenFile):
                files += 1
                try:
                    if _in_the_clear(met.what, name):
                        clear.append(name)
                except (StrongroomError, OSError):
                    unread.append(name)
            elif hasattr(met.what, "why"):
                unread.append(name)
    except OSError:
        return Look(collector="sealing.place", subject=f"place:{folder}", missing="it can't be read")
    if unread and not clear:
        # What couldn't be looked at may be anything: a search that found nothing is then none.
        why = f"{len(unread)} files or folders couldn't be read, `{unread[0][:128]}` first"
        return Look(collector="sealing.place", subject=f"place:{folder}", missing=why)
    return Look(collector="sealing.place", subject=f"place:{folder}", facts={"files": files, "plaintext": tuple(clear)})


def _in_the_clear(file: OpenFile, name: str) -> bool:
    content = content_of(file)
    return content in _BY_CONTENT or (content is not Content.SEALED and Path(name).suffix.lower() in _BY_NAME)
