"""Kim, Seo & Jeon's order on MNIST: adversarial examples of robust models lie nearer to the manifold.

    python tests/peers/manifold_order.py --data DATA [--images 8000] [--epochs 5] [--out DIR]

Their order of the distances (section 2.1, figure 4): clean images < strong < weak adversarial training < standard. The
paper trains on 55,000 images, its VAE-GAN for 30 epochs, and measures on 10,000 images. Here fewer images and epochs
are enough for about a quarter of an hour on one core, and the classifier is the suite's small_cnn (the paper's takes a
hundred times the arithmetic). Everything else is the protocol: the suite's own VAE-GAN with a stochastic latent, a walk
in the L2 ball of radius 6 (12 on [-1, 1]) in 40 steps, the standard model as the referee of all rows. The cut to
[0, 1] shortens the walk, model by model: "walked" is what is left of it.

Below each table stand the differences of the means between neighbours in the order, on the images that both have a
distance of, with the p value of the paired sign-flip test (Holm's correction for the three).
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from torch import Tensor

from benchmark.datasets.defaults import defaults
from benchmark.measuring.measure import case
from benchmark.measuring.place import Place
from benchmark.measuring.training import model_key, train
from benchmark.plan import Cell
from benchmark.planner import plan
from benchmark.statistics.paired import difference, holm
from benchmark.suite import Entry, Suite
from metrics.case import Scores, predict

NAMES = {"": "standard", "L2 0.5": "weak AT (L2 0.5)", "L2 2.0": "strong AT (L2 2.0)"}
PAPER = {"": 0.63, "L2 0.5": 0.59, "L2 2.0": 0.42, "clean": 0.31}
"""Modes of the densities in the paper's figure (xent, stochastic latent), read off to about 0.02."""


def suite(images: int, epochs: int) -> Suite:
    """Three trainings, and the distance by both losses and by two projections."""
    return Suite(
        name="manifold_order", dataset="mnist", train_limit=images, limit=1000, file="manifold_order",
        trainer=[Entry(name="standard"), Entry(name="pgd_at", threat=["L2 0.5", "L2 2.0"])],
        metric=[
            Entry(
                name="reconstruction_distance", generator="vae_gan", epochs=epochs,
                latent=["sample", "mean"], loss=["xent", "margin"],
            )
        ],
    )  # fmt: skip


def median(values: Tensor) -> float:
    return values.nanmedian().item()


class Row(NamedTuple):
    """What came of one training: its threat, its accuracy, and the scores of every image."""

    threat: str
    accuracy: float
    found: Scores


def row(place: Place, cell: Cell) -> Row:
    """Train the model, unless that is done, and measure it."""
    training = cell.training
    key = model_key(place, training, {})
    if not place.store.has("models", key):
        train(place, training, key)
    measured = case(place, cell, key)
    accuracy = (predict(measured.model, measured.x) == measured.y).float().mean().item()
    found = cell.metric.card.load()(measured, **dict(cell.metric.settings))
    return Row(str(training.threat or ""), accuracy, found)


def table(rows: list[Row]) -> str:
    """The rows as Markdown, clean images first, and how sure the order is."""
    clean = rows[0].found["clean_distance"]
    lines = [
        "| images | accuracy | kept | walked (median) | median distance | AUROC | paper (mode, xent) |",
        "|---|---|---|---|---|---|---|",
        f"| clean |  |  |  | {median(clean):.3f} | 0.500 | {PAPER['clean']:.2f} |",
    ]
    for threat, accuracy, found in sorted(rows, key=lambda row: median(row.found["distance"])):
        lines.append(
            f"| {NAMES[threat]} | {accuracy:.1%} | {found['kept'].mean():.1%} | {median(found['walked']):.2f} "
            f"| {median(found['distance']):.3f} | {found['auroc'].nanmean():.3f} | {PAPER[threat]:.2f} |"
        )
    of = {NAMES[row.threat]: row.found["distance"] for row in rows}
    order = {"clean": clean} | {
        NAMES[threat]: of[NAMES[threat]] for threat in ("L2 2.0", "L2 0.5", "")
    }
    return "\n".join([*lines, "", *neighbours(order)])


def neighbours(order: dict[str, Tensor]) -> list[str]:
    """Distances of the same images, in the order that is claimed -> each step's difference, and the verdict."""
    steps = list(pairwise(order))
    found = [difference(order[far].numpy(), order[near].numpy()) for near, far in steps]
    p = holm([each.p for each in found])
    lines = [
        f"- {far} - {near}: {each.value:+.3f} [{each.low:+.3f}, {each.high:+.3f}], p = {own:.4f} ({each.n} images)"
        for (near, far), each, own in zip(steps, found, p, strict=True)
    ]
    held = sum(each.value > 0 and own < 0.05 for each, own in zip(found, p, strict=True))
    turned = sum(each.value < 0 and own < 0.05 for each, own in zip(found, p, strict=True))
    verdict = (
        f"{held} of {len(steps)} steps hold (p < 0.05), {turned} are the other way round (p < 0.05)"
    )
    return [*lines, "", f"The order {' < '.join(order)}: {verdict}."]


def main() -> None:
    """Print a table for each projection and loss."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument(
        "--images", type=int, default=8_000, help="training images, of all networks"
    )
    parser.add_argument("--epochs", type=int, default=5, help="of the VAE-GAN (the paper: 30)")
    parser.add_argument("--out", type=Path, help="keep the networks here; the next call goes on")
    chosen = parser.parse_args()
    made, began = plan(suite(chosen.images, chosen.epochs)), time.perf_counter()
    print("# Order of the distances to the manifold, MNIST\n")
    print(
        f"{chosen.images} training images; VAE-GAN: {chosen.epochs} epochs (the paper: 55,000 and 30);"
    )
    print(f"{defaults('mnist').recipe['architecture']}, 1,000 test images, seed 0.")
    with TemporaryDirectory() as folder:
        place = Place(chosen.out or Path(folder), chosen.data, "cpu")
        for metric in dict.fromkeys(cell.metric for cell in made.cells):
            settings = {"latent": "mean", "loss": "xent"} | dict(metric.settings)
            rows = [row(place, cell) for cell in made.cells if cell.metric == metric]
            print(
                f"\n## latent = {settings['latent']}, loss = {settings['loss']}\n\n{table(rows)}",
                flush=True,
            )
    print(f"\n{time.perf_counter() - began:.0f} s on one core.")


if __name__ == "__main__":
    main()
