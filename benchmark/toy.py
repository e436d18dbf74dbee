"""Kim, Seo & Jeon's toy experiment on boundary tilting: `python -m benchmark.toy [--seeds 0,1,2] [--out DIR]`.

Two thin Gaussian clouds lie side by side. Standard training separates them by a boundary that is tilted towards the
clouds' own long direction, so that an attack leads away from both; adversarial training sets it upright, and an attack
leads from one cloud to the other (section 2.2 of "Bridging adversarial robustness and gradient interpretability").

The paper's points lie in [-1, 1]^2. Here a point is an image of two channels and one pixel in [0, 1], so that the
suite's trainers, attacks and threat models apply; all radii and steps are half of the paper's. Angles do not change.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmark.models._glorot import glorot_uniform
from benchmark.models.base import Normalised, seeded
from benchmark.models.mlp import mlp
from benchmark.report.drawing.style import GREY, looks, styled
from benchmark.report.write import images
from benchmark.storage.atomic import write_atomically
from metrics import attacks
from metrics.case import predict
from metrics.threat import L2
from trainers.base import Images
from trainers.pgd_at import pgd_at
from trainers.recipe import Recipe
from trainers.standard import standard

MEANS = ((1.2, 0.1), (-1.2, -0.1))
COVARIANCE = ((0.1, -0.01), (-0.01, 0.002))
SIZE = 3000
RECIPE = Recipe(
    "mlp", pixels="symmetric", epochs=10, batch_size=100, order="stored",
    lr=1e-3, schedule="constant", keep="last",
)  # fmt: skip
TITLE = "# Angle of an attack below the horizontal: Kim, Seo & Jeon's toy experiment"
WALK = L2(0.5)
"""The attack that is drawn."""


class Setting(NamedTuple):
    """One of the paper's three trainings: its radius, the angle in its figure, and the band of a reproduction."""

    name: str
    threat: L2 | None
    paper: float
    band: tuple[float, float]


SETTINGS = (
    Setting("standard", None, 35, (30, 40)),
    Setting("weak adversarial", L2(0.125), 15, (9, 18)),
    Setting("strong adversarial", L2(0.25), 2, (0, 5)),
)


@dataclass(frozen=True)
class Outcome:
    """A trained classifier and where its attack leads."""

    setting: Setting
    model: nn.Module
    clouds: Images
    attacked: Tensor
    """The attacked points, (n, 2, 1, 1)."""

    @property
    def accuracy(self) -> float:
        """On the training points."""
        return (predict(self.model, self.clouds.x) == self.clouds.y).double().mean().item()

    @property
    def arrow(self) -> tuple[Tensor, Tensor]:
        """Mean of the right cloud, and of where its points are led, on [-1, 1]."""
        right = self.clouds.y == 0
        start, end = (points(each[right]).mean(0) for each in (self.clouds.x, self.attacked))
        return start, end

    @property
    def angle(self) -> float:
        """Of the arrow below the horizontal, in degrees."""
        start, end = self.arrow
        left, down = (start - end).tolist()
        return math.degrees(math.atan2(down, left))

    @property
    def along(self) -> float:
        """Mean share of the displacements' energy along the clouds' long direction."""
        values, vectors = np.linalg.eigh(np.array(COVARIANCE))
        long = torch.tensor(vectors[:, values.argmax()], dtype=torch.float32)
        moves = points(self.attacked) - points(self.clouds.x)
        return ((moves @ long).square() / moves.square().sum(1)).mean().item()

    @property
    def mahalanobis(self) -> float:
        """Mean distance of the attacked points to the other cloud, in its standard deviations."""
        data, y = points(self.clouds.x).double(), self.clouds.y
        found = []
        for label in (0, 1):
            there = data[y != label]
            away = points(self.attacked[y == label]).double() - there.mean(0)
            inverse = torch.linalg.inv(there.T.cov())
            found.append((away @ inverse * away).sum(1).sqrt())
        return torch.cat(found).mean().item()


def points(x: Tensor) -> Tensor:
    """Images (n, 2, 1, 1) in [0, 1] as points (n, 2) in [-1, 1]."""
    return 2 * x.flatten(1) - 1


def clouds() -> Images:
    """The paper's 6,000 points: numpy's seed 0, one scale for both coordinates, shuffled once."""
    random = np.random.RandomState(0)
    drawn = np.concatenate([random.multivariate_normal(mean, COVARIANCE, SIZE) for mean in MEANS])
    low, high = drawn.min(), drawn.max()
    rows = np.c_[(drawn - low) / (high - low), np.repeat([0, 1], SIZE)]
    random.shuffle(rows)
    x = torch.tensor(rows[:, :2], dtype=torch.float32).view(-1, 2, 1, 1)
    return Images(x, torch.tensor(rows[:, 2]).long(), torch.arange(2 * SIZE))


def experiment(setting: Setting, seed: int, steps: int = 40) -> Outcome:
    """Train the paper's network (2-128-2) and attack it, with so many steps of length 1 each."""
    data = clouds()
    with seeded(seed):
        net = mlp(channels=2, classes=2, size=1, hidden=128)
        glorot_uniform(net)
    model: nn.Module = Normalised(net, (0.5, 0.5), (0.5, 0.5))
    nothing = Images(data.x[:0], data.y[:0], data.ids[:0])
    if setting.threat is None:
        standard(model, data, nothing, recipe=RECIPE, threat=None, seed=seed)
    else:
        pgd_at(
            model, data, nothing, recipe=RECIPE, threat=setting.threat, seed=seed,
            steps=steps, step_size=1.0, random_start=False,
        )  # fmt: skip
    model = model.eval().requires_grad_(False)
    attacked = attacks.pgd(model, data.x, data.y, WALK, steps=steps, step_size=1.0)
    return Outcome(setting, model, data, attacked)


def table(seeds: Sequence[int], outcomes: Sequence[Sequence[Outcome]]) -> str:
    """Markdown: a row for each setting, from its outcomes by seed."""
    head = ["training", *(f"seed {seed}" for seed in seeds), "mean", "paper", "band"]
    head += ["along the cloud", "Mahalanobis distance", "accuracy"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in outcomes:
        setting, angles = row[0].setting, [outcome.angle for outcome in row]
        low, high = setting.band
        cells = [setting.name, *(f"{angle:.1f}°" for angle in angles)]
        cells += [f"{np.mean(angles):.1f}°", f"{setting.paper:g}°", f"{low:g} to {high:g}°"]
        cells += [f"{np.mean([each.along for each in row]):.0%}"]
        cells += [f"{np.mean([each.mahalanobis for each in row]):.1f}"]
        cells += [f"{np.mean([each.accuracy for each in row]):.1%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(outcomes: Sequence[Outcome]) -> Figure:
    """Decision regions, both clouds, the attacked points of the right one and the way to them."""
    drawn = Figure(figsize=(2.2 * len(outcomes), 2.75))
    axes = drawn.subplots(1, len(outcomes), squeeze=False, sharex=True, sharey=True)[0]
    for axis, outcome in zip(axes, outcomes, strict=True):
        _panel(axis, outcome)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(
        handles, labels, loc="outside lower center", ncols=3, markerscale=4, handlelength=0.8
    )
    return drawn


def _panel(axis: Axes, outcome: Outcome) -> None:
    right, left, moved = (look.color for look in list(looks("abcd").values())[1:])
    data, y = points(outcome.clouds.x), outcome.clouds.y
    _regions(axis, outcome.model, right, left)
    clouds = (("class 1", data[y == 0], right), ("class 2", data[y == 1], left))
    attacked = ("class 1, attacked", points(outcome.attacked)[y == 0], moved)
    for name, places, color in (*clouds, attacked):
        axis.plot(*places.T, ".", ms=1.2, mew=0, color=color, label=name, rasterized=True)
    (x0, y0), (x1, y1) = (each.tolist() for each in outcome.arrow)
    arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)
    axis.set_title(f"{outcome.setting.name}: {outcome.angle:.0f}°")
    axis.set(
        xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1]
    )
    axis.grid(visible=False)


def _regions(axis: Axes, model: nn.Module, first: str, second: str) -> None:
    side = torch.linspace(-1.1, 1.1, 300)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), 2).view(-1, 2, 1, 1)
    with torch.no_grad():
        logits = model((grid + 1) / 2)
    margin = (logits[:, 0] - logits[:, 1]).view(300, 300)
    span = float(margin.abs().max()) + 1
    axis.contourf(side, side, margin, levels=[-span, 0, span], colors=[second, first], alpha=0.13)
    axis.contour(side, side, margin, levels=[0], colors=GREY, linewidths=0.9)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of angles; with a folder, write it and the figure of the first seed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.toy", description="Boundary tilting (Kim et al. 2019)"
    )
    parser.add_argument("--seeds", default="0,1,2", help="seeds of the networks, as in 0,1,2")
    parser.add_argument("--out", type=Path, help="folder for toy.md, toy.pdf and toy.png")
    chosen = parser.parse_args(arguments)
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    outcomes = [[experiment(setting, seed) for seed in seeds] for setting in SETTINGS]
    found = table(seeds, outcomes)
    print(found)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        text = f"{TITLE}\n\n`python -m benchmark.toy --seeds {chosen.seeds}`\n\n{found}\n"
        write_atomically(
            chosen.out / "toy.md", partial(Path.write_text, data=text, encoding="utf-8")
        )
        with styled():
            for kind, content in images(figure([row[0] for row in outcomes])).items():
                write = partial(Path.write_bytes, data=content)
                write_atomically(chosen.out / f"toy.{kind}", write)


if __name__ == "__main__":
    main()
