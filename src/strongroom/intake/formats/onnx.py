"""ONNX models: where tensors lie in other files, and which operators the graph needs. (onnx/onnx.proto.)

An external tensor names a path, and readers have followed it out of the folder: here it must be one of the files that
were delivered. An operator of an unknown domain needs a library of its own, which is code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from strongroom.intake.formats.protobufs import FieldAt, fields
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Cursor, Source

MAX_DEPTH: Final = 16
MAX_MESSAGES: Final = 5_000_000
MAX_TEXT: Final = 1024
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft"})
"""Operators that runtimes bring along. `ai.onnx.ml` and `com.microsoft` have none that runs code of the model."""
_OPERATORS: Final = frozenset({"PyOp", "PythonOp", "PythonOpGrad", "ExternalCustomOp"})
_EXTERNAL: Final = 1

# Message -> field -> message. What isn't listed holds no tensor and no node.
_SHAPE: Final[Mapping[str, Mapping[int, str]]] = MappingProxyType(
    {
        "model": {7: "graph", 20: "training", 25: "function"},
        "training": {1: "graph", 2: "graph"},
        "function": {7: "node"},
        "graph": {1: "node", 5: "tensor", 15: "sparse"},
        "node": {5: "attribute"},
        "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
        "sparse": {1: "tensor", 2: "tensor"},
        "tensor": {},
    }
)


@dataclass(slots=True)
class OnnxFacts:
    """What a model has, and the files that its tensors lie in."""

    nodes: int = 0
    tensors: int = 0
    external: set[str] = field(default_factory=set)
    """Paths beside the model, none of which leaves its folder."""


@dataclass(frozen=True, slots=True)
class _Walk:
    source: Source
    where: str
    folder: str
    delivered: Mapping[str, int]
    facts: OnnxFacts

    def message(self, kind: str, begin: int, end: int, depth: int) -> None:
        cursor = self.cursor(begin, end)
        if depth > MAX_DEPTH or self.facts.nodes + self.facts.tensors > MAX_MESSAGES:
            raise cursor.refuse("graphs nested too deep, or too many nodes and tensors")
        if kind == "tensor":
            self.tensor(cursor)
            return
        if kind == "node":
            self.node(begin, end)
        for one in fields(cursor):
            inner = _SHAPE[kind].get(one.number)
            if inner is not None:
                if one.value is not None:
                    raise cursor.refuse("a number where a message should be")
                self.message(inner, one.begin, one.end, depth + 1)

    def cursor(self, begin: int, end: int) -> Cursor:
        return Cursor(self.source, self.where, Rule.ONNX_FORM, begin=begin, end=end)

    def text(self, one: FieldAt) -> str:
        cursor = self.cursor(one.begin, one.end)
        if one.value is not None:
            raise cursor.refuse("a number where a text should be")
        try:
            return cursor.take(cursor.left, most=MAX_TEXT).decode("utf-8")
        except UnicodeDecodeError:
            raise cursor.refuse("a text that isn't UTF-8") from None

    def node(self, begin: int, end: int) -> None:
        self.facts.nodes += 1
        for one in fields(self.cursor(begin, end)):
            if one.number == 7 and (domain := self.text(one)) not in DOMAINS:
                raise IntakeRefusedError(
                    Rule.ONNX_OPERATOR, f"{self.where}: an operator of the domain {shown(domain)}, which needs code"
                )
            if one.number == 4 and (name := self.text(one)) in _OPERATORS:
                raise IntakeRefusedError(Rule.ONNX_OPERATOR, f"{self.where}: the operator {shown(name)} runs code")

    def tensor(self, cursor: Cursor) -> None:
        self.facts.tensors += 1
        external, described = False, {}
        for one in fields(cursor):
            if one.number == 14:
                external = one.value == _EXTERNAL
            elif one.number == 13:
                key, value = self.pair(one)
                if key in described:
                    raise cursor.refuse("an external tensor that says something twice")
                described[key] = value
        if external or described:
            self.external(described)

    def pair(self, one: FieldAt) -> tuple[str, str]:
        found = {1: "", 2: ""}
        for inner in fields(self.cursor(one.begin, one.end)):
            if inner.number in found:
                found[inner.number] = self.text(inner)
        return found[1], found[2]

    def external(self, described: dict[str, str]) -> None:
        location = described.get("location", "")
        parts = location.split("/")
        if set(parts) & {"", ".", ".."} or "\\" in location or ":" in location:
            raise IntakeRefusedError(
                Rule.ONNX_EXTERNAL, f"{self.where}: a tensor at {shown(location)}, which isn't beside the model"
            )
        size = self.delivered.get(self.folder + location)
        if size is None:
            raise IntakeRefusedError(
                Rule.ONNX_EXTERNAL, f"{self.where}: a tensor at {shown(location)}, which wasn't delivered"
            )
        offset, length = (described.get(name, "0") for name in ("offset", "length"))
        counts = all(text.isascii() and text.isdigit() and len(text) <= 18 for text in (offset, length))
        if not counts or int(offset) + int(length) > size:
            raise IntakeRefusedError(Rule.ONNX_EXTERNAL, f"{self.where}: a tensor beyond the end of {shown(location)}")
        self.facts.external.add(self.folder + location)


def check_onnx(source: Source, where: str, *, name: str, delivered: Mapping[str, int]) -> OnnxFacts:
    """Judge a model by walking its graph. ``delivered`` has the size of each file that was delivered with ``name``.

    :raises IntakeRefusedError: onnx-form, onnx-external or onnx-operator.
    """
    head, slash, _ = name.rpartition("/")
    walk = _Walk(source, where, head + slash, delivered, OnnxFacts())
    walk.message("model", 0, source.size, 0)
    if not walk.facts.nodes and not walk.facts.tensors:
        raise IntakeRefusedError(Rule.ONNX_FORM, f"{where}: no graph")
    return walk.facts
