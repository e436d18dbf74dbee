"""Retrainings per minute: ours, and the loop that a user would write, of the same classifiers on the same images.

    python tests/peers/retraining_speed.py [TASK ...] [--ways WAY ...] [--retrainings N] [--data FOLDER]

The plain loop is float32 PyTorch in one process, with as many threads as PyTorch takes by itself and with one. Ours is
what ROAR does: worker processes of one thread each. The other lines change one thing: precision, memory format, many
models under vmap. The ratio is to the plain loop with the threads it takes by itself.
Test accuracies of the retrained models stand beside. CPU seconds say more than minutes where other programs run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ConstantLR, OneCycleLR

from benchmark.datasets.load import load
from benchmark.measuring import plain_training
from benchmark.models.base import build
from metrics.case import predict
from trainers.base import Images
from trainers.recipe import Recipe


@dataclass(frozen=True)
class Task:
    """What is retrained, on how many images."""

    data: str
    recipe: Recipe
    train: int
    root: Path | None = None

    def images(self) -> tuple[Images, Images]:
        full = load(self.data, self.root)
        parts = full.train[: self.train], full.test[:1000]
        train, test = (Images(part.x, part.y, part.ids) for part in parts)
        return train, test

    def fresh(self, seed: int) -> nn.Module:
        size = {"digits": 8, "mnist": 28, "cifar10": 32}[self.data]
        channels = 3 if self.data == "cifar10" else 1
        return build(
            self.recipe.architecture, channels=channels, classes=10, size=size,
            mean=[0.3] * channels, std=[0.35] * channels, seed=seed, activation=self.recipe.activation,
        )  # fmt: skip


TASKS = {
    "digits": Task("digits", Recipe("digits_cnn", epochs=20, lr=5e-3), 2000),
    "mnist": Task("mnist", Recipe("small_cnn", epochs=10, batch_size=100, lr=5e-3), 2000),
    "kim2019_mnist": Task(
        "mnist",
        Recipe("kim2019_mnist", epochs=2, batch_size=100, order="stored", schedule="constant"),
        1000,
    ),
    "kim2019_cifar": Task(
        "cifar10",
        Recipe("kim2019_cifar", epochs=5, batch_size=100, order="stored", schedule="constant"),
        2000,
    ),
    "cifar_small": Task("cifar10", Recipe("small_cnn", epochs=10, batch_size=100, lr=5e-3), 2000),
}  # fmt: skip


def plain(task: Task, seeds: list[int]) -> list[nn.Module]:
    """The loop of a tutorial, with the recipe's optimiser and PyTorch's own schedule."""
    train, _ = task.images()
    recipe, models = task.recipe, []
    for seed in seeds:
        model = task.fresh(seed).train()
        torch.manual_seed(seed)
        optimiser = torch.optim.Adam(model.parameters(), lr=recipe.lr)
        steps = -(-len(train.y) // recipe.batch_size) * recipe.epochs
        schedule = (
            OneCycleLR(optimiser, recipe.lr, total_steps=steps)
            if recipe.schedule == "onecycle"
            else ConstantLR(optimiser, 1.0)
        )
        for _ in range(recipe.epochs):
            for batch in torch.randperm(len(train.y)).split(recipe.batch_size):
                optimiser.zero_grad()
                F.cross_entropy(model(train.x[batch]), train.y[batch]).backward()
                optimiser.step()
                schedule.step()
        models.append(model.eval())
    return models


def one_by_one(
    task: Task, seeds: list[int], low: bool = False, last: bool = False
) -> list[nn.Module]:
    """Ours, perhaps in bfloat16, perhaps with channels last."""
    train, _ = task.images()
    recipe = replace(
        task.recipe, precision="bfloat16" if low else "float32",
        memory_format="channels_last" if last else "contiguous",
    )  # fmt: skip
    models = [task.fresh(seed) for seed in seeds]
    for model, seed in zip(models, seeds, strict=True):
        plain_training.one(model, train, recipe=recipe, seed=seed)
    return models


def bfloat16(task: Task, seeds: list[int]) -> list[nn.Module]:
    return one_by_one(task, seeds, low=True)


def channels_last(task: Task, seeds: list[int]) -> list[nn.Module]:
    return one_by_one(task, seeds, last=True)


def both(task: Task, seeds: list[int]) -> list[nn.Module]:
    return one_by_one(task, seeds, low=True, last=True)


def vmapped(task: Task, seeds: list[int]) -> list[nn.Module]:
    """All as one program."""
    train, _ = task.images()
    models = [task.fresh(seed) for seed in seeds]
    sets = [train] * len(seeds)
    plain_training.several(models, sets, recipe=task.recipe, seeds=seeds)
    return models


OURS = {
    "ours": one_by_one,
    "ours, bfloat16": bfloat16,
    "ours, channels last": channels_last,
    "ours, bfloat16 and channels last": both,
    "ours, vmap": vmapped,
}
WAYS = ("plain loop", "plain loop, one thread", *OURS)


def timed(way, task: Task, seeds: list[int]) -> tuple[list[float], float]:
    """Accuracies and CPU seconds of these retrainings."""
    began = time.process_time()
    models = way(task, seeds)
    spent = time.process_time() - began
    _, test = task.images()
    return [(predict(m, test.x) == test.y).float().mean().item() for m in models], spent


def one_thread() -> None:
    torch.set_num_threads(1)


def in_workers(
    name: str, task: Task, number: int, workers: int
) -> tuple[list[float], float, float]:
    """Accuracies, wall seconds and CPU seconds, by worker processes that are warm."""
    spawn = multiprocessing.get_context("spawn")
    threads = None if name == "plain loop" else one_thread
    way = OURS.get(name, plain)
    short = replace(task, recipe=replace(task.recipe, epochs=1), train=200)
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=threads) as pool:
        list(pool.map(timed, [way] * workers, [short] * workers, [[0, 1]] * workers))
        shares = [list(range(number))[rank::workers] for rank in range(workers)]
        began = time.perf_counter()
        found = list(pool.map(timed, [way] * workers, [task] * workers, shares))
        wall = time.perf_counter() - began
    return [a for part, _ in found for a in part], wall, sum(spent for _, spent in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS, metavar="WAY")
    parser.add_argument("--retrainings", type=int, default=8)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    print(
        f"{given.workers} workers, {torch.get_num_threads()} threads for the plain loop; load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':44} per minute  ratio  CPU s each  accuracy (mean, sd)")
    for title in given.tasks or ["digits"]:
        task, usual = replace(TASKS[title], root=given.data), 0.0
        for name in [way for way in WAYS if way in ("plain loop", *given.ways)]:
            workers = given.workers if name in OURS else 1
            accuracies, wall, spent = in_workers(name, task, given.retrainings, workers)
            rate = 60 * len(accuracies) / wall
            usual = usual or rate
            print(
                f"{title + ': ' + name:44} {rate:10.1f} {rate / usual:6.2f} {spent / len(accuracies):11.2f}"
                f"  {mean(accuracies):.4f} {stdev(accuracies):.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
