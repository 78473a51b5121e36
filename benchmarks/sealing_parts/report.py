"""What is printed: a table for each model, the goals, and one line of JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.sealing_parts.rounds import NOTHING, Figure

Figures = dict[str, dict[tuple[str, str], Figure]]
"""By model, then by variant and case."""
OURS: Final = "strongroom"
OPENED: Final = "strongroom-opened"
CASES: Final = {
    "hot": "owned, hot",
    "fresh": "owned, fresh",
    "touch": "mapped, touched",
    "existing": "existing, warm",
    "cold": "existing, cold",
}
_WIDTH: Final = 24
_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a measure of ours, alone or against another variant's."""

    name: str
    limit: float
    measured: Callable[[Figures], float | None]
    unit: str = "x"
    at_least: bool = False

    def met(self, value: float | None) -> bool | None:
        """Return whether it is met, or nothing if it wasn't measured."""
        if value is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit


def _value(figures: Figures, model: str, variant: str, case: str, measure: str) -> float | None:
    return figures.get(model, {}).get((variant, case), NOTHING).median(measure)


def _ratio(
    model: str, case: str, against: str, *, other: str = "", measure: str = "total_s"
) -> Callable[[Figures], float | None]:
    def measured(figures: Figures) -> float | None:
        ours = _value(figures, model, OURS, case, measure)
        theirs = _value(figures, model, against, other or case, measure)
        if not ours or not theirs:
            return None
        return ours / theirs

    return measured


def _faster(case: str, than: str) -> Callable[[Figures], float | None]:
    inverse = _ratio("llm", case, than)
    return lambda figures: (ratio := inverse(figures)) and 1 / ratio


def _alone(case: str, measure: str, unit: float, variant: str = OURS) -> Callable[[Figures], float | None]:
    def measured(figures: Figures) -> float | None:
        value = _value(figures, "llm", variant, case, measure)
        return None if value is None else value / unit

    return measured


# Into existing tensors and to a file, the time ends when all is there: reading it once more would only dilute ratios.
GOALS: Final = (
    Goal("warm, into existing: of load_file + copy_", 1.15, _ratio("llm", "existing", "plain", measure="open_s")),
    Goal("warm, owned, hot memory: of load_file + clone", 1.0, _ratio("llm", "hot", "plain")),
    Goal("warm, all read: of load_file, mapped", 2.5, _ratio("llm", "hot", "plain", other="touch")),
    Goal("cold, into existing: of load_file + copy_", 0.6, _ratio("llm", "cold", "plain", measure="open_s")),
    Goal("16,384 tensors, all read: of load_file, mapped", 1.0, _ratio("small64k", "hot", "plain", other="touch")),
    Goal("seal + fsync: of save_file + fsync", 0.65, _ratio("llm", "seal", "plain")),
    Goal("seal: memory beyond the tensors", 64, _alone("seal", "peak_bytes", _MB), unit=" MB"),
    Goal("open: times as fast as cryptotensors", 2.5, _faster("hot", "cryptotensors"), at_least=True),
    Goal("open: times as fast as tensorizer", 3.5, _faster("hot", "tensorizer"), at_least=True),
    Goal("seal: times as fast as cryptotensors", 5.0, _faster("seal", "cryptotensors"), at_least=True),
    Goal("one tensor of 10 MB, warm", 5.0, _alone("one", "total_s", 0.001), unit=" ms"),
    Goal("one tensor of 10 MB, cold", 10.0, _alone("one_cold", "total_s", 0.001), unit=" ms"),
    Goal("the same of an open model, warm", 5.0, _alone("one", "total_s", 0.001, OPENED), unit=" ms"),
    Goal("the same of an open model, cold", 10.0, _alone("one_cold", "total_s", 0.001, OPENED), unit=" ms"),
)


def tell_model(title: str, figures: dict[tuple[str, str], Figure]) -> None:
    """Print the tables of one model."""
    variants = list(dict.fromkeys(sorted((variant for variant, _ in figures), key=_first_ours)))
    print(f"\n{title}\n\nOpen and read every byte, seconds, median [least-most]; in brackets below: open alone.")
    cases = [case for case in CASES if any((variant, case) in figures for variant in variants)]
    print(f"{'':18}" + "".join(f"{CASES[case]:>{_WIDTH}}" for case in cases))
    for variant in variants:
        row = [figures.get((variant, case), NOTHING) for case in cases]
        if any(figure.samples or figure.error for figure in row):
            print(f"{variant:18}" + "".join(f"{figure.shown('total_s'):>{_WIDTH}}" for figure in row))
            opened = [f"({open_s:.3f})" if (open_s := figure.median("open_s")) is not None else "" for figure in row]
            print(f"{'':18}" + "".join(f"{text:>{_WIDTH}}" for text in opened))
    _tell_peaks(variants, figures)
    _tell_one(variants, figures)
    _tell_seal(variants, figures)
    for (variant, case), figure in sorted(figures.items()):
        if figure.error is not None:
            print(f"{variant}, {case}: {figure.error}")


def _first_ours(variant: str) -> tuple[int, str]:
    return {"plain": 0, OURS: 1}.get(variant, 2), variant


def _tell_peaks(variants: list[str], figures: dict[tuple[str, str], Figure]) -> None:
    """Print what was resident at the peak; of what is mapped, pages of files count too."""
    found = {v: figures.get((v, "fresh"), NOTHING) for v in variants}
    if any(figure.samples for figure in found.values()):
        peaks = [
            f"{variant} {peak / _MB:.0f}"
            for variant, figure in found.items()
            if (peak := figure.median("peak_bytes")) is not None
        ]
        print(f"Peak of resident memory above the start, owned and fresh, MB (files' pages count): {', '.join(peaks)}")


def _tell_one(variants: list[str], figures: dict[tuple[str, str], Figure]) -> None:
    rows = [(v, figures.get((v, "one"), NOTHING), figures.get((v, "one_cold"), NOTHING)) for v in variants]
    if not any(warm.samples or cold.samples for _, warm, cold in rows):
        return
    print("\nOne tensor, opening the file included, milliseconds")
    print(f"{'':18}{'warm':>{_WIDTH}}{'cold':>{_WIDTH}}{'cold: MB from disk':>{_WIDTH}}")
    for variant, warm, cold in rows:
        if warm.samples or cold.samples:
            shown = (
                warm.shown("total_s", 0.001, 1),
                cold.shown("total_s", 0.001, 1),
                cold.shown("read_bytes", _MB, 1),
            )
            print(f"{variant:18}" + "".join(f"{text:>{_WIDTH}}" for text in shown))


def _tell_seal(variants: list[str], figures: dict[tuple[str, str], Figure]) -> None:
    rows = [(v, figures[v, "seal"]) for v in variants if figures.get((v, "seal"), NOTHING).samples]
    if not rows:
        return
    print("\nSeal, with fsync, from tensors in memory (age, openssl: from file to file)")
    print(f"{'':18}{'seconds':>{_WIDTH}}{'extra memory, MB':>{_WIDTH}}{'file, MB':>{_WIDTH}}")
    for variant, figure in rows:
        shown = (
            figure.shown("total_s"),
            figure.shown("peak_bytes", _MB, 0),
            f"{(figure.median('file_bytes') or 0) / _MB:.1f}",
        )
        print(f"{variant:18}" + "".join(f"{text:>{_WIDTH}}" for text in shown))


def tell_goals(figures: Figures) -> list[dict[str, float | str | bool | None]]:
    """Print each goal, what was measured, and whether it is met; returns the same for the JSON line."""
    print(f"\n{'goal, 2 GB model unless it says otherwise':52}{'goal':>12}{'measured':>12}  ")
    told: list[dict[str, float | str | bool | None]] = []
    for goal in GOALS:
        value = goal.measured(figures)
        met = goal.met(value)
        bound = f"{'>=' if goal.at_least else '<='} {goal.limit:g}{goal.unit}"
        shown = "-" if value is None else f"{value:.2f}{goal.unit}"
        word = {True: "met", False: "NOT MET", None: "not measured"}[met]
        print(f"{goal.name:52}{bound:>12}{shown:>12}  {word}")
        told.append({"goal": goal.name, "bound": bound, "measured": value and round(value, 3), "met": met})
    return told


def medians(figures: Figures) -> dict[str, dict[str, dict[str, float]]]:
    """Return the medians of all, in seconds, for the JSON line."""
    return {
        model: {
            f"{variant} {case}": {
                "open_s": round(figure.median("open_s") or 0, 4),
                "total_s": round(figure.median("total_s") or 0, 4),
                "samples": len(figure.samples),
                "extra_mb": round((figure.median("peak_bytes") or 0) / _MB, 1),
            }
            for (variant, case), figure in sorted(found.items())
            if figure.samples
        }
        for model, found in figures.items()
    }
