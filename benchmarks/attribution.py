"""Leak attribution: who is named after what was done to a leaked copy, and what a mark costs the model.

Fifty recipients have a copy each of the real all-MiniLM-L6-v2 and of a random-initialised language model of a billion
parameters in bfloat16 (drawn tensor by tensor; nothing of it is on a disk). One copy leaks, or four are put together;
each is compared with the original. For the real model also: how far its embeddings move, beside a cast to other types.

    python benchmarks/attribution.py [--layers N] [--changes CHANGE ...] [--no-real] [--table FILE]

Each row is drawn from seeds of its own, so rows may be run one at a time. One tensor is in memory at a time, of each
copy that is put together: 3 GB for a billion parameters. Without the real model, the package and the extra `numpy` are
all that it takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from strongroom.core.ids import ModelId
from strongroom.core.safetensors_header import make_header, parse_header
from strongroom.intake.marks.leak import WIDTHS, LeakedTensor, numbers
from strongroom.intake.marks.marking import GRIDS, CopyName, PlainFile, marked
from strongroom.intake.marks.score import Finding, Original, compare
from strongroom.intake.source import BytesSource
from support.marked_models import GENESIS, encoded, quantised

COPIES: Final = tuple(CopyName(GENESIS, ModelId(f"copy-{number}")) for number in range(50))
GUILTY: Final = (7, 11, 23, 42)
"""Whose copies are put together; the first leaks alone elsewhere."""
HIDDEN, WIDE, FEW, VOCABULARY = 2048, 8192, 512, 32_000
BEGIN, END = "<!-- generated -->", "<!-- end -->"
SAMPLED: Final = 1 << 18
"""Values of a tensor by which it is recognised."""
PIECE: Final = (1 << 20) - 32

Change = Callable[[Sequence[Any]], Any]
"""The guilty copies' values of one tensor, as float32 -> what leaks."""


class Tensors:
    """A model whose tensors are made when they are wanted."""

    def __init__(self, kind: str, shapes: Mapping[str, tuple[int, ...]], make: Callable[[str, int], bytes]) -> None:
        self.kind, self.shapes, self._make = kind, shapes, make
        sizes = [(name, kind, shape, int(np.prod(shape)) * GRIDS[kind].width) for name, shape in shapes.items()]
        self.head, self.order = make_header(sizes, None)
        self.size = len(self.head) + sum(size for *_rest, size in sizes)
        self._last: tuple[str, bytes] = ("", b"")
        header = parse_header(self.head[8:], file_size=self.size)
        self._begins = {name: len(self.head) + one.begin for name, one in header.tensors.items()}

    def bytes_of(self, name: str) -> bytes:
        """Return a tensor's bytes."""
        if self._last[0] != name:
            self._last = (name, self._make(name, int(np.prod(self.shapes[name]))))
        return self._last[1]

    def first_of(self, name: str) -> bytes:
        """Return a tensor's first bytes: what is enough to recognise it by."""
        return self._make(name, min(SAMPLED, int(np.prod(self.shapes[name]))))

    def chunks(self) -> Iterator[memoryview]:
        """Yield the whole file."""
        yield memoryview(self.head)
        for name in self.order:
            data = memoryview(self.bytes_of(name))
            for begin in range(0, len(data), PIECE):
                yield data[begin : begin + PIECE]

    def read(self, offset: int, length: int) -> bytes:
        """Return some bytes, of the head or of one tensor."""
        if offset < len(self.head):
            return self.head[offset : offset + length]
        name = max((name for name in self.order if self._begins[name] <= offset), key=lambda one: self._begins[one])
        assert offset == self._begins[name], "only beginnings are read"
        return self.first_of(name)[:length]

    def original(self) -> Original:
        """Return it as attribution reads it."""
        return Original(PlainFile("model.safetensors", self.size, self.read), self.chunks)

    def marked(self, data: bytes, copy: CopyName) -> Any:
        """Return one tensor of a copy, flat and as float32."""
        shape = (1, len(data) // GRIDS[self.kind].width)
        head, _order = make_header([("w", self.kind, shape, len(data))], None)
        pieces = (memoryview(piece) for piece in (head, data))
        made = b"".join(map(bytes, marked("a.safetensors", len(head) + len(data), pieces, copy)))
        bits = np.frombuffer(made, dtype=f"<u{GRIDS[self.kind].width}", offset=len(head))
        return numbers(bits, self.kind).astype(np.float32)


class Leaked:
    """What leaks of a model, tensor by tensor: a source of bytes for each."""

    def __init__(self, model: Tensors, copies: Sequence[CopyName], change: Change, kind: str) -> None:
        self._model, self._copies, self._change, self.kind = model, copies, change, kind
        self._last: tuple[str, bytes] = ("", b"")

    def tensors(self) -> list[LeakedTensor]:
        """Return them, under their own names."""
        return [
            LeakedTensor(name=name, kinds=(self.kind,), elements=int(np.prod(shape)), source=_Lazy(self, name), begin=0)
            for name, shape in self._model.shapes.items()
        ]

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return some bytes of a tensor."""
        if self._last[0] != name:
            few = SAMPLED * WIDTHS[self.kind]
            if not offset and length == few < int(np.prod(self._model.shapes[name])) * WIDTHS[self.kind]:
                return self._made(self._model.first_of(name))
            self._last = (name, self._made(self._model.bytes_of(name)))
        return self._last[1][offset : offset + length]

    def _made(self, data: bytes) -> bytes:
        return encoded(self._change([self._model.marked(data, copy) for copy in self._copies]), self.kind)


class _Lazy:
    size = 0

    def __init__(self, leaked: Leaked, name: str) -> None:
        self._leaked, self._name = leaked, name

    def read(self, offset: int, length: int) -> bytes:
        return self._leaked.read(self._name, offset, length)


def _noise(part: float) -> Change:
    def change(copies: Sequence[Any]) -> Any:
        drawn = np.random.default_rng(5).standard_normal(copies[0].shape, dtype=np.float32)
        return copies[0] + drawn * np.float32(part * float(copies[0].std()))

    return change


def _pruned(copies: Sequence[Any]) -> Any:
    size = np.abs(copies[0])
    return np.where(size < np.median(size), np.float32(0), copies[0])


def _low_bits(copies: Sequence[Any]) -> Any:
    bits = copies[0].view(np.uint32)
    drawn = np.random.default_rng(6).integers(0, 2, bits.shape, dtype=np.uint32) << 16
    return ((bits & np.uint32(0xFFFE0000)) | drawn).view(np.float32)


def _one_each(copies: Sequence[Any]) -> Any:
    chosen = np.random.default_rng(8).integers(0, len(copies), copies[0].shape, dtype=np.uint8)
    return np.choose(chosen, copies)


CHANGES: Final[Mapping[str, tuple[int, Change, str]]] = {
    "none": (1, lambda copies: copies[0], ""),
    "cast to fp16": (1, lambda copies: copies[0], "F16"),
    "int8, a scale for 64": (1, lambda copies: quantised(copies[0], 8), "F32"),
    "int4, a scale for 64": (1, lambda copies: quantised(copies[0], 4), "F32"),
    "noise of 10 % of sigma": (1, _noise(0.1), "F32"),
    "every bfloat16 low bit drawn anew": (1, _low_bits, ""),
    "half of the values pruned": (1, _pruned, ""),
    "average of 4 copies": (4, lambda copies: sum(copies) / np.float32(4), "F32"),
    "average of 4 copies, then int4": (4, lambda copies: quantised(sum(copies) / np.float32(4), 4), "F32"),
    "middle of 4 copies' extremes": (
        4,
        lambda copies: (np.maximum.reduce(copies) + np.minimum.reduce(copies)) / np.float32(2),
        "F32",
    ),
    "each value from one of 4 copies": (4, _one_each, ""),
}


def attributed(model: Tensors, changes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return, for each change, the least z of the guilty, the greatest of the innocent, and seconds."""
    found = {}
    for name in changes:
        count, change, kind = CHANGES[name]
        guilty = GUILTY[:count]
        leaked = Leaked(model, [COPIES[one] for one in guilty], change, kind or model.kind)
        began = time.perf_counter()
        finding = compare([model.original()], leaked.tensors(), COPIES)
        seconds = time.perf_counter() - began
        found[name] = {**_scores(finding, {COPIES[one].copy for one in guilty}), "seconds": round(seconds, 1)}
        print(f"  {name}: {found[name]}", flush=True)
    return found


def _scores(finding: Finding, guilty: set[ModelId]) -> dict[str, float]:
    named = {one.copy for one in finding.scores if one.accused}
    assert not named - guilty, named
    return {
        "guilty": round(min(one.z for one in finding.scores if one.copy in guilty), 1),
        "innocent": round(max(one.z for one in finding.scores if one.copy not in guilty), 1),
        "named": len(named),
        "values": finding.places,
    }


def random_model(layers: int) -> Tensors:
    """Return a language model of a billion parameters with 16 layers, as initialised."""
    shapes: dict[str, tuple[int, ...]] = {"embed": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        for name, shape in (
            ("q", (HIDDEN, HIDDEN)),
            ("k", (FEW, HIDDEN)),
            ("v", (FEW, HIDDEN)),
            ("o", (HIDDEN, HIDDEN)),
            ("gate", (WIDE, HIDDEN)),
            ("up", (WIDE, HIDDEN)),
            ("down", (HIDDEN, WIDE)),
        ):
            shapes[f"layers.{layer}.{name}"] = shape
    seeds = {name: number for number, name in enumerate(shapes)}

    def make(name: str, count: int) -> bytes:
        rng = np.random.Generator(np.random.SFC64(seeds[name]))
        return encoded(rng.standard_normal(count, dtype=np.float32) * np.float32(0.02), "BF16")

    return Tensors("BF16", shapes, make)


def real_model(folder: Path) -> Tensors:
    """Return the real model's float32 tensors."""
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = parse_header(data[8 : 8 + length], file_size=len(data))
    tensors = {name: one for name, one in header.tensors.items() if one.dtype == "F32"}

    def make(name: str, count: int) -> bytes:
        begin = header.data_start + tensors[name].begin
        return data[begin : begin + count * 4]

    return Tensors("F32", {name: one.shape for name, one in tensors.items()}, make)


def drift(folder: Path) -> dict[str, dict[str, float]]:
    """Return how far embeddings of the real model move: by a mark, and by casts of its weights."""
    import torch  # noqa: PLC0415 - only the real model needs it
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    docs = Path(__file__).resolve().parents[1] / "docs" / "adr"
    lines = [line for page in sorted(docs.glob("0*.md")) for line in page.read_text().splitlines() if len(line) > 60]
    tokens = AutoTokenizer.from_pretrained(folder)(lines[:400], padding=True, truncation=True, return_tensors="pt")

    def embedded(model: Any) -> Any:
        with torch.no_grad():
            hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean.double(), dim=1)

    plain = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    before = embedded(plain)
    nearest = (before @ before.T - 2 * torch.eye(len(before))).argmax(1)
    found = {}
    for name, change in {
        "a mark": None,
        "weights in fp16": lambda weights: weights.half().float(),
        "weights in bf16": lambda weights: weights.bfloat16().float(),
        "weights in int8": lambda weights: torch.tensor(quantised(weights.numpy(), 8)),
    }.items():
        model = _marked_model(folder) if change is None else AutoModel.from_pretrained(folder, dtype=torch.float32)
        if change is not None:
            for weights in model.parameters():
                if weights.ndim > 1:
                    weights.data = change(weights.data)
        after = embedded(model.eval())
        distance = 1 - (before * after).sum(1)
        same = (after @ after.T - 2 * torch.eye(len(after))).argmax(1) == nearest
        found[name] = {
            "mean": float(distance.mean()),
            "largest": float(distance.max()),
            "same_nearest": float(same.double().mean()),
        }
    return found


def _marked_model(folder: Path) -> Any:
    import torch  # noqa: PLC0415 - as above
    from transformers import AutoModel  # noqa: PLC0415

    data = (folder / "model.safetensors").read_bytes()
    made = b"".join(map(bytes, marked("model.safetensors", len(data), iter([memoryview(data)]), COPIES[GUILTY[0]])))
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "model.safetensors").write_bytes(made)
        (Path(place) / "config.json").write_bytes((folder / "config.json").read_bytes())
        return AutoModel.from_pretrained(place, dtype=torch.float32)


def speed() -> dict[str, float]:
    """Return gigabytes a second of marking, beside copying the same bytes, and of comparing with 1 copy and with 50."""
    model = random_model(1)
    data = b"".join(map(bytes, model.chunks()))

    def best(action: Callable[[], object]) -> float:
        times = []
        for _round in range(3):
            began = time.perf_counter()
            action()
            times.append(time.perf_counter() - began)
        return len(data) / min(times) / 1e9

    def chunks() -> Iterator[memoryview]:
        return (memoryview(data)[begin : begin + PIECE] for begin in range(0, len(data), PIECE))

    def mark() -> None:
        for _piece in marked("a.safetensors", len(data), chunks(), COPIES[0]):
            pass

    file = PlainFile("a.safetensors", len(data), lambda offset, length: data[offset : offset + length])
    header = parse_header(model.head[8:], file_size=len(data))
    leaked = [
        LeakedTensor(
            name=name,
            kinds=("BF16",),
            elements=one.size // 2,
            source=BytesSource(data),
            begin=header.data_start + one.begin,
        )
        for name, one in header.tensors.items()
    ]
    return {
        "copied": best(lambda: [bytes(piece) for piece in chunks()]),
        "marked": best(mark),
        "compared_with_1": best(lambda: compare([Original(file, chunks)], leaked, COPIES[:1])),
        "compared_with_50": best(lambda: compare([Original(file, chunks)], leaked, COPIES)),
    }


def _table(results: dict[str, Any]) -> str:
    both = [name for name in ("random", "real") if name in results]
    titles = {"random": results["title"], "real": "all-MiniLM-L6-v2, float32"}
    rows = [
        "| Done to the copy | " + " | ".join(f"{titles[name]}: guilty | innocent" for name in both) + " |",
        "|---|" + "---:|---:|" * len(both),
    ]
    for change in results["random"]:
        count, cells = CHANGES[change][0], []
        for name in both:
            one = results[name][change]
            missed = "" if one["named"] == count else f" ({int(one['named'])} of {count} named)"
            cells.append(f"{one['guilty']:,}{missed} | {one['innocent']}")
        rows.append(f"| {change} | " + " | ".join(cells) + " |")
    if "drift" in results:
        rows += [
            "",
            "| The real model with | Mean cosine distance | Largest | Same nearest neighbour |",
            "|---|---:|---:|---:|",
        ]
        rows += [
            f"| {name} | {one['mean']:.1e} | {one['largest']:.1e} | {100 * one['same_nearest']:.1f} % |"
            for name, one in results["drift"].items()
        ]
    told = results["speed"]
    rows += [
        "",
        f"Marking ran at {told['marked']:.1f} GB/s where copying the same pieces ran at {told['copied']:.1f};",
        f"comparing at {told['compared_with_1']:.2f} with one recipient, at {told['compared_with_50']:.2f} with fifty.",
    ]
    return "\n".join(rows)


def _genuine() -> Path | None:
    from support.pretrained import genuine_model  # noqa: PLC0415 - only the real model needs it

    return genuine_model()


def main() -> None:
    """Run, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=16, help="of the random model; 16 are a billion parameters")
    parser.add_argument("--table", type=Path, help="write the table into this page, between its marks")
    parser.add_argument("--changes", nargs="+", choices=[*CHANGES], default=[*CHANGES], metavar="CHANGE")
    parser.add_argument("--no-real", action="store_true", help="leave the real model out")
    given = parser.parse_args()
    model = random_model(given.layers)
    parameters = sum(int(np.prod(shape)) for shape in model.shapes.values())
    results: dict[str, Any] = {"title": f"{parameters / 1e9:.2f}B random, bfloat16", "speed": speed()}
    print(results["title"], results["speed"], flush=True)
    folder = None if given.no_real else _genuine()
    if folder is not None:
        results["drift"] = drift(folder)
        results["real"] = attributed(real_model(folder), given.changes)
    results["random"] = attributed(model, given.changes)
    table = _table(results)
    print(table)
    if given.table:
        text = given.table.read_text()
        head, tail = text.split(BEGIN)[0], text.split(END)[1]
        given.table.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
