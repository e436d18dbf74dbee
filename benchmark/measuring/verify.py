"""Judge the saved adversarial examples of a run again: other batches, another process, perhaps another machine.

For each example: is it inside the ball and inside [0, 1], does it change the label, and is the unchanged image still
classified as it was? Whatever differs from what the run recorded is a disagreement. Data and models are loaded anew:
models trained here from the run's store, a third party's from where its specification says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from benchmark.datasets.base import Split
from benchmark.errors import BenchError, IntegrityError
from benchmark.grading import Verdict, judge
from benchmark.measuring.examples import FOUND, KIND
from benchmark.measuring.place import Place, dataset, prints
from benchmark.measuring.training import model
from benchmark.plan import DataSpec, Part, Training
from benchmark.storage import ledger
from benchmark.storage.ledger import Entry
from benchmark.store import Store, StoreError, no_plan
from metrics import threat as threats
from trainers.recipe import Recipe


@dataclass(frozen=True)
class Checked:
    """How the examples of one cell fared."""

    title: str
    examples: int = 0
    """How many were judged again."""
    disagreements: tuple[str, ...] = ()
    """"image 17: outside the ball (norm 0.12), recorded as inside the ball"."""
    cannot: str = ""
    """Why none could be judged: data or a model that is not here."""
    damage: str = ""
    """A file that is not what was written to it."""

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """(disagreement, not verifiable or damaged; what and where)."""
        lines = [("disagreement", line) for line in self.disagreements]
        lines += [("not verifiable", self.cannot)] if self.cannot else []
        lines += [("damaged", self.damage)] if self.damage else []
        return [(kind, f"{self.title}: {line}") for kind, line in lines]


def outcome(seen: Sequence[Checked], without: int) -> tuple[str, int]:
    """The summary of a verification in one line, and its exit status."""
    judged = sum(one.examples for one in seen)
    differ = sum(len(one.disagreements) for one in seen)
    cannot, damaged = (
        sum(bool(getattr(one, name)) for one in seen) for name in ("cannot", "damage")
    )
    words = [f"{judged} examples of {len(seen)} cells judged again", f"{differ} disagreements"]
    words += [f"{cannot} cells not verifiable"] if cannot else []
    words += [f"{damaged} cells damaged"] if damaged else []
    words += [f"{without} attacks keep no examples"] if without else []
    nothing = judged == 0 and any(one.cannot for one in seen)  # must not look like a success
    status = IntegrityError.status if damaged else int(differ > 0 or nothing)
    return ", ".join(words) + ".", status


def examples(folder: Path) -> tuple[list[Entry], int]:
    """The cells of a run that keep adversarial examples, and the number of attacks that keep none."""
    book, store = ledger.read(folder), Store(folder)
    if book is None:
        raise StoreError(no_plan(folder))
    found = [entry for entry in book.entries if store.has(KIND, entry.key)]
    attacks = [e for e in book.entries if "robust_accuracy" in e.directions and e not in found]
    return found, sum(book.state(store, entry) == "done" for entry in attacks)


def verify(folder: Path, entries: list[Entry], root: Path | None, device: str) -> Iterator[Checked]:
    """Judge the examples of each cell again, in order."""
    place = Place(folder, root, device)
    load = lru_cache(maxsize=1)(lambda key, wanted: model(place, wanted, key))
    for entry in entries:
        title = f"{entry.label} {entry.threat} of {entry.who}"
        try:
            yield _checked(place, entry, title, load)
        except IntegrityError as error:
            yield Checked(title, damage=str(error))
        except (BenchError, OSError) as error:
            yield Checked(title, cannot=str(error))
        except (KeyError, ValueError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            path = place.store.path(KIND, entry.key)
            yield Checked(title, damage=f"{path} or the model is not what a run writes: {reason}")


def _checked(
    place: Place, entry: Entry, title: str, load: Callable[[str, Training], nn.Module]
) -> Checked:
    tensors, info = place.store.load(KIND, entry.key)
    scores, _ = place.store.load("cells", entry.key)
    if not info["sets"]:
        return Checked(title)  # the metric did not apply: it has made none
    training = _training(entry, info)
    data = _images(place, entry, training.data)
    subject = load(entry.model_key, training)
    threat = threats.parse(info["threat"])
    lines: list[str] = []
    judged = 0
    for number in range(info["sets"]):
        then = {name: tensors[f"{number}/{name}"] for name in FOUND}
        adversarial = tensors[f"{number}/adversarial"]
        some = data[: len(adversarial)].to(place.device)
        now = judge(
            subject, some.x, some.y, threat, adversarial.to(place.device), _batch(len(some))
        )
        if info["sets"] == 1 and "robust_accuracy" in scores:
            then["held"] = scores["robust_accuracy"][: len(some)] > 0.5
        lines += [f"image {some.ids[i]}: {text}" for i, text in _differences(now, then)]
        judged += len(some)
    return Checked(title, judged, tuple(lines))


def _batch(count: int) -> int:
    """Another size than the grading's."""
    return count if count < 6 else min(61, count // 3)


def _images(place: Place, entry: Entry, data: DataSpec) -> Split:
    """The test images of a cell; BenchError if they are not here, or others."""
    if prints(data, place.data).test != entry.images:
        raise BenchError(f"the test images of {entry.dataset} here are not those of the run")
    return dataset(data, place.data).test


def _training(entry: Entry, info: Mapping[str, Any]) -> Training:
    """What it takes to load the data and the model of a cell; BenchError if another version wrote it."""
    try:
        data = TypeAdapter(DataSpec).validate_python(info["data"])
        recipe = TypeAdapter(Recipe | None).validate_python(info["recipe"])
    except ValidationError as error:
        raise BenchError(f"was written by another version: {error.errors()[0]['msg']}") from None
    return Training(
        data=data, model=entry.model, recipe=recipe, seed=entry.seed, label=entry.trainer,
        # only whether there is one matters for loading
        trainer=Part("trainers", entry.trainer, ()) if recipe else None,
        threat=None, selection=None, reference=recipe or Recipe(entry.model),
    )  # fmt: skip


def _differences(now: Verdict, then: Mapping[str, Tensor]) -> Iterator[tuple[int, str]]:
    """(place of the image, what is not as recorded); the score counts where nothing else explains it."""
    found = {name: getattr(now, name).cpu() for name in FOUND}
    found["held"] = now.scores()["robust_accuracy"].cpu() > 0.5
    for i, size in enumerate(now.size.tolist()):
        differs = [name for name in then if then[name][i] != found[name][i]]
        for name in differs[:1] if differs == ["held"] else [n for n in differs if n != "held"]:
            seen, said = (_WORDS[name][bool(values[i])] for values in (found[name], then[name]))
            norm = f" (norm {size:.6g})" if name == "in_ball" else ""
            yield i, f"{seen}{norm}, recorded as {said}"


_WORDS = {  # (where it is false, where it is true)
    "clean": ("misclassified unchanged", "correct unchanged"),
    "fooled": ("its label does not change", "its label changes"),
    "in_ball": ("outside the ball", "inside the ball"),
    "in_range": ("outside [0, 1]", "inside [0, 1]"),
    "held": ("broken", "robust"),
}
