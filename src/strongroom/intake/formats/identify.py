"""What a file is, by its content and by its name, which must agree; and the one judge for it.

Scanners that go by names skip a pickle called `.txt`; scanners that go by content alone let a loader choose. Here the
content says what a file may be, the name must be one that loaders take for the same, and all else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import Json
from strongroom.intake.formats import gguf, numpy_arrays, zips
from strongroom.intake.formats.gguf import check_gguf
from strongroom.intake.formats.numpy_arrays import check_npy, check_npz
from strongroom.intake.formats.onnx import check_onnx
from strongroom.intake.formats.pickle_globals import NUMPY_GLOBALS
from strongroom.intake.formats.pickles import check_pickle
from strongroom.intake.formats.protobufs import fields
from strongroom.intake.formats.safetensors import TensorFacts, check_safetensors
from strongroom.intake.formats.texts import check_json, check_text
from strongroom.intake.formats.torch_checkpoints import check_torch_zip
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Cursor, Source


class Format(StrEnum):
    """Formats that the gate lets through."""

    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    PICKLE = "pickle"
    TORCH_ZIP = "torch-zip"
    NPY = "npy"
    NPZ = "npz"
    ONNX = "onnx"
    ONNX_DATA = "onnx-data"
    SENTENCEPIECE = "sentencepiece"
    JSON = "json"
    TEXT = "text"


_TORCH_NAMES: Final = frozenset({"pt", "pth", "bin", "ckpt"})
_PICKLE_NAMES: Final = _TORCH_NAMES | {"pkl", "pickle"}
_TEXT_NAMES: Final = frozenset({"txt", "md", "jinja", "yaml", "yml", "csv", "tsv", "vocab", "merges", "rst"})
_RAW_NAMES: Final = frozenset({"data", "onnx_data"})
_BARE_NAMES: Final = frozenset({"license", "licence", "notice", "readme", "copying"})
_BY_NAME: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "safetensors": Format.SAFETENSORS,
        "gguf": Format.GGUF,
        "npy": Format.NPY,
        "npz": Format.NPZ,
        "onnx": Format.ONNX,
        "model": Format.SENTENCEPIECE,
        "json": Format.JSON,
        **dict.fromkeys(_TEXT_NAMES, Format.TEXT),
        **dict.fromkeys(_PICKLE_NAMES, Format.PICKLE),
    }
)
_MAGICS: Final[tuple[tuple[int, bytes, Format], ...]] = (
    (0, gguf.MAGIC, Format.GGUF),
    (0, numpy_arrays.MAGIC, Format.NPY),
)
_ARCHIVES: Final = (
    (0, b"\x1f\x8b"),
    (0, b"BZh"),
    (0, b"\xfd7zXZ\x00"),
    (0, b"\x28\xb5\x2f\xfd"),
    (0, b"7z\xbc\xaf\x27\x1c"),
    (0, b"Rar!"),
    (0, b"\x04\x22\x4d\x18"),
    (0, b"MSCF"),
    (0, b"\x89HDF\r\n\x1a\n"),
    (257, b"ustar"),
)
_PROGRAMS: Final = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!", b"\0asm")
_HEAD: Final = 512
MAX_SENTENCEPIECE: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What a file is, and facts about it for the verdict."""

    format: Format
    facts: Json
    external: frozenset[str] = frozenset()
    """Delivered files that an ONNX model's tensors lie in."""


def check_file(source: Source, name: str, *, delivered: Mapping[str, int]) -> FileVerdict:
    """Say what a delivered file is, and judge it as that.

    ``delivered`` has the size of every delivered file by its name.

    :raises IntakeRefusedError: by the rule of its format, or unknown-format, name-and-content, archive or executable.
    """
    where = shown(name)
    head = source.read(0, min(_HEAD, source.size))
    _refuse_what_never_enters(head, where)
    kind = _format(head, name)
    if kind is Format.ONNX:
        model = check_onnx(source, where, name=name, delivered=delivered)
        return FileVerdict(kind, {"tensors": model.tensors}, frozenset(model.external))
    return FileVerdict(kind, _JUDGES[kind](source, where))


def check_delivery(sources: Mapping[str, Source]) -> dict[str, FileVerdict]:
    """Judge every file of a delivery, by its name.

    A file `*.data` or `*.onnx_data` is bytes without any form: let in where a delivered ONNX model names it, and only
    there.

    :raises IntakeRefusedError: as :func:`check_file`, for the first file that isn't let in.
    """
    sizes = {name: source.size for name, source in sources.items()}
    raw = {name for name in sources if name.rpartition(".")[2] in _RAW_NAMES}
    found = {name: check_file(sources[name], name, delivered=sizes) for name in sorted(sources) if name not in raw}
    named = {name for verdict in found.values() for name in verdict.external}
    for name in sorted(raw):
        if name not in named:
            raise IntakeRefusedError(Rule.UNKNOWN_FORMAT, f"{shown(name)}: bytes that no delivered model names")
        _refuse_what_never_enters(sources[name].read(0, min(_HEAD, sizes[name])), shown(name))
        found[name] = FileVerdict(Format.ONNX_DATA, {"bytes": sizes[name]})
    for name in named - raw:
        raise IntakeRefusedError(Rule.ONNX_EXTERNAL, f"{shown(name)}: tensors of a model in a file of another kind")
    return found


def _tensors(facts: TensorFacts) -> dict[str, Json]:
    return {"tensors": facts.tensors, "bytes": facts.data_bytes}


def _refuse_what_never_enters(head: bytes, where: str) -> None:
    if any(head[offset : offset + len(magic)] == magic for offset, magic in _ARCHIVES):
        raise IntakeRefusedError(
            Rule.ARCHIVE, f"{where}: an archive or a compressed file", remedy="deliver what is in it, as a folder"
        )
    if head.startswith(_PROGRAMS):
        raise IntakeRefusedError(Rule.EXECUTABLE, f"{where}: a program")


def _format(head: bytes, name: str) -> Format:
    base = name.rpartition("/")[2].lower()
    _stem, dot, ending = base.rpartition(".")
    named = _BY_NAME.get(ending) if dot else (Format.TEXT if base in _BARE_NAMES else None)
    if named is None:
        raise IntakeRefusedError(
            Rule.UNKNOWN_FORMAT, f"{shown(name)}: a kind of file that isn't let in", remedy="leave it out"
        )
    content = _content(head)
    if content is Format.TORCH_ZIP and named is Format.NPZ:
        return Format.NPZ
    if content is Format.TORCH_ZIP and ending in _TORCH_NAMES:
        return Format.TORCH_ZIP
    if content is not None and content is not named:
        raise IntakeRefusedError(
            Rule.NAME_AND_CONTENT, f"{shown(name)}: called {named.value}, and its content is {content.value}"
        )
    return named


def _content(head: bytes) -> Format | None:
    """Return what the first bytes say beyond doubt, or None."""
    for offset, magic, kind in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if head.startswith(zips.MAGIC):
        return Format.TORCH_ZIP
    if len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return Format.PICKLE
    return None


def _check_sentencepiece(source: Source, where: str) -> int:
    """A tokenizer's model: a message of the fields that its schema has (sentencepiece_model.proto)."""
    if source.size > MAX_SENTENCEPIECE:
        raise IntakeRefusedError(Rule.TOO_LARGE, f"{where}: a tokenizer of more than {MAX_SENTENCEPIECE} bytes")
    for one in fields(Cursor(source, where, Rule.FORM)):
        if one.number > 5 or one.value is not None:
            raise IntakeRefusedError(Rule.FORM, f"{where}: not a tokenizer's model")
    return source.size


def _torch(source: Source, where: str) -> Json:
    tensors, pickle = check_torch_zip(source, where)
    return {**_tensors(tensors), "globals": [*pickle.globals]}


def _pickle(source: Source, where: str) -> Json:
    found = check_pickle(source, where, allowed=NUMPY_GLOBALS)
    return {"globals": [*found.globals], "protocol": found.protocol}


_JUDGES: Final[Mapping[Format, Callable[[Source, str], Json]]] = MappingProxyType(
    {
        Format.SAFETENSORS: lambda source, where: _tensors(check_safetensors(source, where)),
        Format.GGUF: lambda source, where: _tensors(check_gguf(source, where)),
        Format.NPY: lambda source, where: _tensors(check_npy(source, where)),
        Format.NPZ: lambda source, where: _tensors(check_npz(source, where)),
        Format.TORCH_ZIP: _torch,
        Format.PICKLE: _pickle,
        Format.SENTENCEPIECE: lambda source, where: {"bytes": _check_sentencepiece(source, where)},
        Format.JSON: lambda source, where: {"bytes": check_json(source, where)},
        Format.TEXT: lambda source, where: {"bytes": check_text(source, where)},
    }
)
