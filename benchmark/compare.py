"""Two models on the same images: every measure's difference, whether it is noise, and who is better.

The models are of one run or of two; images are paired by their number in the data set, and only if both runs were
measured on the same ones. p values are corrected (Holm) for all comparisons that are asked for at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from benchmark.cards import nearest
from benchmark.report.pooling import MEASURE
from benchmark.report.read import Run, read
from benchmark.report.tables.chosen import EVERYTHING, chosen, grouped
from benchmark.report.tables.columns import Choice, choice
from benchmark.report.tables.images import Scores, by_measure
from benchmark.report.tables.table import table
from benchmark.sides import AbsentError, CompareError, Side, of_run, pairs_of
from benchmark.statistics.paired import SIGNIFICANT, Difference, difference, holm
from benchmark.storage import ledger

Names = tuple[str, ...]
Unbeaten = Mapping[tuple[str, ...], Names]
"""Model, training, metric, settings, threat and measure -> controls."""


@dataclass(frozen=True)
class Line:
    """One measure of two models: `difference` is that of B minus A, `p` corrected for all comparisons."""

    dataset: str
    a: str
    b: str
    family: str
    metric: str
    label: str
    params: str
    threat: str
    measure: str
    direction: str
    range: str
    headline: bool
    runs: tuple[str, str]
    """The folders of A and of B, by as much of their paths as tells them apart."""
    reconstructions: tuple[bool, bool]
    """Of A and of B."""
    unbeaten: tuple[Names, Names]
    """The controls that A and that B are not significantly better than, as the table of its run says."""
    difference: Difference
    p: float = np.nan

    @property
    def gain(self) -> tuple[float, float, float]:
        """By how much B is better, with the ends of the interval; negative where it is worse."""
        d = self.difference
        return (
            (-d.value, -d.high, -d.low) if self.direction == "lower" else (d.value, d.low, d.high)
        )

    @property
    def better(self) -> Literal["A", "B", ""]:
        """The better side (in two runs both may bear one name); empty for noise, or if neither direction is better."""
        if not self.p < SIGNIFICANT or not self.direction:
            return ""
        return "B" if self.gain[0] > 0 else "A"

    @property
    def hollow(self) -> bool:
        """Whether the better side does not beat its controls: then its lead says nothing of the model."""
        return bool(self.better and self.unbeaten["AB".index(self.better)])


def compare(
    first: Path,
    second: Path | None = None,
    models: tuple[str, str] | None = None,
    baseline: str | None = None,
    words: Sequence[str] = EVERYTHING,
    orders: Sequence[Sequence[str]] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> list[Line]:
    """Every measure that `words` choose of every pair that is asked for; CompareError where models cannot be paired.

    Of one run the two `models`, or all against `baseline`, or each in `orders` against the one before it, or the only
    two that there are; of two runs the two `models`, or those that bear the same name in both, or the only one of each.
    A data set that lacks a model is left out where another has them all. `tell` hears of what is left out.
    """
    one, other = read(first), read(second or first)
    shared = [name for name in one.by_dataset() if name in other.by_dataset()]
    if not shared:
        raise CompareError(f"{first} and {second} have no data set in common")
    _check_words(words, [other.by_dataset()[name].records for name in shared])
    sides = {
        name: (of_run(one.by_dataset()[name]), of_run(other.by_dataset()[name])) for name in shared
    }
    asked = {
        name: partial(pairs_of, a, b, second is None, models, baseline, orders)
        for name, (a, b) in sides.items()
    }
    runs = _told_apart(first, second or first)
    found: list[Line] = []
    for name, pairs in _possible(asked, tell).items():
        if second is not None:
            _check_images(first, second, name)
        marks = _unbeaten(one.by_dataset()[name], words)
        others = marks if second is None else _unbeaten(other.by_dataset()[name], words)
        for side in {side.name: side for pair in pairs for side in pair}.values():
            if side.scores.empty:
                tell(f"{side.name} on {name}: no scores of single images, left out")
        for pair in pairs:
            found += _lines(name, *pair, runs, words, (marks, others))
    if not found:
        raise CompareError(
            f"{' and '.join(map(str, filter(None, (first, second))))}: no measure with scores of single images is in "
            "both; bench report FOLDER writes those that a folder holds"
        )
    for word in [] if tuple(words) == EVERYTHING else words:
        if not any(takes(choice(word), line) for line in found):
            tell(f"--measure {word}: no scores of single images in both, left out")
    corrected = holm([line.difference.p for line in found])
    return [replace(line, p=float(p)) for line, p in zip(found, corrected, strict=True)]


def takes(one: Choice, line: Line) -> bool:
    """Whether a comparison is of what a word chooses, a measure that it names or a headline."""
    return one.takes(vars(line))


def _possible(
    asked: Mapping[str, Callable[[], list[tuple[Side, Side]]]], tell: Callable[[str], None]
) -> dict[str, list[tuple[Side, Side]]]:
    """The pairs of the data sets that have all models of theirs; AbsentError if none has."""
    found, absent = {}, {}
    for name, pairs in asked.items():
        try:
            found[name] = pairs()
        except AbsentError as error:
            absent[name] = error
    if not found:
        raise next(iter(absent.values()))
    for name, why in absent.items():
        tell(f"{name} is left out: {why}")
    return found


def _told_apart(first: Path, second: Path) -> tuple[str, str]:
    """Two folders by their names, or by their paths where the names are equal."""
    one, other = first.resolve(), second.resolve()
    return (
        (str(first), str(second))
        if one.name == other.name and one != other
        else (one.name, other.name)
    )


def _check_words(words: Sequence[str], measured: Sequence[pd.DataFrame]) -> None:
    """CompareError for a word that chooses nothing on any of the data sets."""
    absent = [set(chosen(records, words)[1]) for records in measured]
    for word in filter(set.intersection(*absent).__contains__, words):
        raise CompareError(f"--measure {word!r}: {not_there(choice(word), pd.concat(measured))}")


def not_there(one: Choice, measured: pd.DataFrame) -> str:
    """Why a word chooses none of what was measured (columns `metric` and `family`), and what there is."""
    what = "family" if one.family else "metric"
    name, known = one.family or one.metric, sorted({*measured[what]} - {"preflight"})
    if name not in known:
        return f"no {what} {name!r} was measured{nearest(name, known)}"
    return f"{name} was measured, but nothing of this measure, setting or threat"


def _check_images(first: Path, second: Path, dataset: str) -> None:
    """CompareError unless both runs were measured on the same images of a data set."""
    prints = [
        {line.images for line in book.entries if line.dataset == dataset}
        for book in map(ledger.read, (first, second))
        if book
    ]
    if len(prints) == 2 and prints[0] != prints[1]:
        raise CompareError(
            f"{first} and {second} were measured on different images of {dataset} (fingerprints "
            f"{', '.join(sorted(prints[0]))} and {', '.join(sorted(prints[1]))}): give both runs the same data, "
            "--limit and --split"
        )


def _unbeaten(run: Run, words: Sequence[str]) -> Unbeaten:
    """The ‡ of the table of these columns: every model's test is corrected there over all models of its run."""
    cells = table(run, "all", words).by_key()
    return {key: cell.unbeaten for key, cell in cells.items() if cell.unbeaten}


def _lines(
    dataset: str,
    a: Side,
    b: Side,
    runs: tuple[str, str],
    words: Sequence[str],
    marks: tuple[Unbeaten, Unbeaten],
) -> Iterator[Line]:
    scores = _aligned(dataset, a, b)
    keys, _ = chosen(b.run.records, words)
    cards = {
        tuple(str(card[name]) for name in MEASURE): card
        for card in b.run.records[b.run.records["at"].isna()]
        .drop_duplicates(MEASURE)
        .to_dict("records")
    }
    reconstructions = (a.reconstruction, b.reconstruction)
    for key in grouped(keys):
        family, metric, label, params, threat, measure = key
        own = scores.get((metric, params, threat, measure), {})
        if len(own) == 2:
            found = difference(own["", "b"], own["", "a"])
            one, other = (
                beaten.get((side.model, side.trainer, metric, params, threat, measure), ())
                for side, beaten in zip((a, b), marks, strict=True)
            )
            yield Line(
                dataset, a.name, b.name, family, metric, label, params, threat, measure,
                str(cards[key]["direction"]), str(cards[key]["range"]), bool(cards[key]["headline"]),
                runs, reconstructions, (one, other), found,
            )  # fmt: skip


def _aligned(dataset: str, a: Side, b: Side) -> dict[tuple[str, ...], Scores]:
    """The scores of both on the same images, A's as ("", "a") and B's as ("", "b")."""
    if a.scores.empty or b.scores.empty:
        return {}
    frames = [side.scores.assign(model="", trainer=name) for side, name in ((a, "a"), (b, "b"))]
    images = [frame.drop_duplicates("image").set_index("image")["label"] for frame in frames]
    if not images[0].sort_index().equals(images[1].sort_index()):
        raise CompareError(
            f"{a.name} and {b.name} were measured on different images of {dataset} ({len(images[0])} and "
            f"{len(images[1])}, or their labels differ); a paired comparison takes the same ones"
        )
    return by_measure(pd.concat(frames, ignore_index=True))
