"""What Kim, Seo & Jeon 2019 print of their networks on CIFAR-10, which their own suite has beside its results."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.report.read import Run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE = Path(__file__).parent / "kim2019.toml"


class Figures(NamedTuple):
    """Of one series of networks and one score."""

    strength: tuple[float, float]
    """[Pearson, Spearman] of the score with the radius of the training."""
    accuracy: tuple[float, float]
    """The same with the networks' accuracy."""
    standard: float
    """The score of standard training."""
    strongest: float
    """That of the network trained at `radius`."""
    radius: float


def applies(run: Run, dataset: str) -> bool:
    """Whether a run is of the paper's suite and data."""
    return dataset == "cifar10" and str(run.manifest.get("suite", "")).startswith("kim2019")


def figures(series: str, norm: str, metric: str, params: str) -> Figures | None:
    """What the paper prints for a series of trainings and a measure with these settings, as records name them."""
    loss = "margin" if "loss=margin" in series else "xent"
    given = "gradient_x_input" if "gradient_x_input" in params else "gradient"
    wanted = {"norm": norm, "loss": loss, "attribution": given, "metric": metric}
    paper = _paper()
    for each in paper["series"]:
        if wanted.items() <= each.items():
            standard, strongest = each["scores"]
            return Figures(
                each["strength"], each["accuracy"], standard, strongest, paper["strongest"][norm]
            )
    return None


@cache
def _paper() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
