"""Seconds of an epoch of every method, relative to standard training, on a machine that may be busy.

    python tests/peers/training_speed.py [TRAINER ...] [--channels 1] [--rounds 5] [--batches 20]

Reports have the seconds of their own trainings, beside which other jobs ran. Here all methods take an epoch in turn,
round by round, each relative to the standard one of its round, and the median of the rounds is printed: what else the
machine does falls on all of them. Images are noise (MNIST's size with one channel, CIFAR-10's with three), which time
does not see; the network is small_cnn, batches are of 100. JARN's critic plays from the first step on.
"""

from __future__ import annotations

import argparse
import platform
from statistics import median

import torch

from benchmark.cards import cards
from benchmark.models.base import build
from metrics.threat import Linf
from trainers.base import Images
from trainers.recipe import Recipe

SIZES = {1: 28, 3: 32}
SETTINGS = {"jarn": {"start": 0.0}, "free_at": {"replays": 2}}
"""An epoch of free_at has `replays` steps of each batch: its time is over that many."""


def images(count: int, channels: int) -> Images:
    made = torch.Generator().manual_seed(0)
    size = SIZES[channels]
    x = torch.rand(count, channels, size, size, generator=made)
    return Images(x, torch.arange(count) % 10, torch.arange(count))


def seconds(name: str, train: Images, recipe: Recipe) -> float:
    """Of the last epoch: the first one prepares what later ones find."""
    card = cards("trainers")[name]
    channels, size = train.x.shape[1:3]
    model = build(
        recipe.architecture, channels=channels, classes=10, size=size,
        mean=[0.5] * channels, std=[0.3] * channels, seed=0,
    )  # fmt: skip
    threat = Linf(8 / 255) if card.needs_threat else None
    settings = SETTINGS.get(name, {})
    found = card.load()(model, train, train, recipe=recipe, threat=threat, seed=0, **settings)
    return float(found.log[-1].seconds) / settings.get("replays", 1)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    known = [name for name in cards("trainers") if name != "standard"]
    parser.add_argument("trainers", nargs="*", default=known, help="all by default")
    parser.add_argument("--channels", type=int, choices=SIZES, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    train = images(100 * chosen.batches, chosen.channels)
    recipe = Recipe("small_cnn", epochs=4, batch_size=100, keep="last")
    ratios: dict[str, list[float]] = {name: [] for name in chosen.trainers}
    for _ in range(chosen.rounds):
        standard = seconds("standard", train, recipe)
        for name in chosen.trainers:
            ratios[name].append(seconds(name, train, recipe) / standard)
    print(
        f"small_cnn, {chosen.channels} channel(s), batches of 100, one thread of {platform.machine()}"
    )
    print(f"{'standard':<18}1.0")
    for name, found in ratios.items():
        print(f"{name:<18}{median(found):.1f}   ({min(found):.1f} to {max(found):.1f})")


if __name__ == "__main__":
    main()
