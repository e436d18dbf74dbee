"""The adversarial examples that a metric had graded: kept beside its scores, for `bench verify` to judge again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from benchmark.grading import Verdict
from benchmark.plan import Cell
from benchmark.storage.verdicts import CLEAN
from benchmark.store import Store

KIND = "adversarials"


@dataclass
class Graded:
    """Told every verdict of the harness; keeps the examples of the first test images."""

    keep: int
    """Of how many test images."""
    sets: list[tuple[Tensor, Verdict]] = field(default_factory=list)

    def note(self, adversarial: Tensor, verdict: Verdict) -> None:
        """One more set of examples."""
        # a copy: the metric may go on with its images in place
        mine = adversarial[: self.keep].detach().to("cpu", torch.float32, copy=True)
        self.sets.append((mine, verdict))

    def clean(self) -> dict[str, Tensor]:
        """Whether each unchanged image is classified as labelled; nothing where nothing was graded."""
        return {CLEAN: self.sets[0][1].clean} if self.sets else {}

    def save(self, store: Store, cell: Cell, key: str) -> None:
        """Keep the examples, what was found of them, and what it takes to load their model again."""
        tensors = {}
        for number, (adversarial, verdict) in enumerate(self.sets):
            tensors[f"{number}/adversarial"] = adversarial
            for name in FOUND:
                tensors[f"{number}/{name}"] = getattr(verdict, name)[: self.keep]
        data, recipe = cell.training.data, cell.training.recipe
        info = {
            "sets": len(self.sets),
            "threat": cell.threat and f"{cell.threat.norm} {cell.threat.eps!r}",
            "data": asdict(data),
            "recipe": recipe and asdict(recipe),
        }
        store.save(KIND, key, tensors, info)


FOUND = ("clean", "fooled", "in_ball", "in_range")
"""The fields of a verdict that are kept."""


def kept(store: Store, key: str) -> int:
    """Of how many test images the examples of a cell are kept."""
    return int(store.info("cells", key).get(KIND, 0)) if store.has(KIND, key) else 0
