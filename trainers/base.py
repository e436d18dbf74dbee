"""What a training method is, and the one loop that all of them share.

Most methods are a loss on a batch: `@from_loss` lifts such a function into a `Trainer`. A method with a loop of its own
writes the `Trainer` signature.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.case import in_batches, predict
from metrics.randomness import Draws
from metrics.threat import ThreatModel
from trainers.recipe import Recipe


class Diverged(Exception):
    """The loss is no longer a finite number; the message says where."""


class Images(NamedTuple):
    """Images (n, C, H, W) in [0, 1], labels (n,), and identities (n,), on the device of the training."""

    x: Tensor
    y: Tensor
    ids: Tensor


@dataclass(frozen=True)
class Step:
    """What a loss may use beside model and batch."""

    draws: Draws
    """Random numbers of the batch's images in this step: fork them, never the global generator."""
    progress: float
    """Share of the training done, 0..1."""
    threat_or_none: ThreatModel | None

    @property
    def threat(self) -> ThreatModel:
        """The threat to train against; ValueError without one."""
        if self.threat_or_none is None:
            raise ValueError("this trainer needs a threat, as in threat = 'Linf 8/255'")
        return self.threat_or_none


class Epoch(NamedTuple):
    """One row of the training log."""

    epoch: int
    loss: float
    """Mean training loss."""
    validation: float
    """What chooses the checkpoint: mean of clean and PGD-10 accuracy on the validation split; NaN if not computed."""
    lr: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A trained model in eval mode, the log, and the epoch whose weights it has."""

    model: nn.Module
    log: list[Epoch]
    kept: int


OnEpoch = Callable[[Epoch], None]
Loss = Callable[..., Tensor]
"""(model, x, y, step, *, settings) -> scalar loss of the batch."""


class Trainer(Protocol):
    """A training method: changes the model it is given, from the images it is given."""

    __name__: str

    def __call__(
        self,
        model: nn.Module,
        train: Images,
        validation: Images,
        /,
        *,
        recipe: Recipe,
        threat: ThreatModel | None,
        seed: int,
        selection: ThreatModel | None = ...,
        on_epoch: OnEpoch = ...,
        **settings: object,
    ) -> Trained:
        """Train; raises Diverged when the loss is not finite.

        `threat` is what the method trains against, `selection` what its checkpoint is chosen under (none: `threat`).
        """


def from_loss(loss: Loss) -> Trainer:
    """Lift a loss on a batch into a trainer: `@from_loss def trades(model, x, y, step, *, beta=6.0)`."""

    def trainer(
        model: nn.Module,
        train: Images,
        validation: Images,
        /,
        *,
        recipe: Recipe,
        threat: ThreatModel | None,
        seed: int,
        selection: ThreatModel | None = None,
        on_epoch: OnEpoch = lambda epoch: None,
        **settings: object,
    ) -> Trained:
        loop = _Loop(model, train, validation, recipe, threat, selection or threat, seed)

        def objective(x: Tensor, y: Tensor, step: Step) -> Tensor:
            return loss(model, x, y, step, **settings)

        return loop.run(objective, on_epoch)

    trainer.__name__ = loss.__name__
    trainer.__doc__ = loss.__doc__
    return trainer


@dataclass
class _Loop:
    """Epochs of optimiser steps in a keyed order, with the checkpoint chosen on the validation split."""

    model: nn.Module
    train: Images
    validation: Images
    recipe: Recipe
    threat: ThreatModel | None
    selection: ThreatModel | None
    seed: int
    log: list[Epoch] = field(default_factory=list)

    def run(
        self, objective: Callable[[Tensor, Tensor, Step], Tensor], on_epoch: OnEpoch
    ) -> Trained:
        optimiser = _optimiser(self.model, self.recipe)
        steps = len(self._batches(0))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            # the middle of a step: its start would waste the first step on a rate of 0
            optimiser,
            lambda step: rate(self.recipe.schedule, (step + 0.5) / (steps * self.recipe.epochs)),
        )
        best, kept, weights = -math.inf, 0, _copy(self.model)
        for epoch in range(self.recipe.epochs):
            began, total = time.perf_counter(), 0.0
            self.model.train()
            for number, batch in enumerate(self._batches(epoch)):
                progress = (epoch + number / steps) / self.recipe.epochs
                draws = Draws(self.seed, self.train.ids[batch]).fork("step", epoch, number)
                x = augment(self.recipe.augment, self.train.x[batch], draws)
                loss = objective(x, self.train.y[batch], Step(draws, progress, self.threat))
                total += self._descend(loss, optimiser, epoch, number) * len(batch)
                schedule.step()
            score = self._validate()
            if not score < best:  # NaN (keep = "last") and equal scores take the later epoch
                best, kept, weights = score, epoch, _copy(self.model)
            self.log.append(
                Epoch(
                    epoch, total / len(self.train.y), score,
                    optimiser.param_groups[0]["lr"], time.perf_counter() - began,
                )
            )  # fmt: skip
            on_epoch(self.log[-1])
        self.model.load_state_dict(weights)
        return Trained(self.model.eval(), self.log, kept)

    def _batches(self, epoch: int) -> tuple[Tensor, ...]:
        order = (
            Draws(self.seed, self.train.ids).fork("order", epoch).uniform(1).squeeze(1).argsort()
        )
        batches = order.split(self.recipe.batch_size)
        if len(batches) > 1 and len(batches[-1]) == 1:  # BatchNorm cannot train on a single image
            return *batches[:-2], torch.cat(batches[-2:])
        return batches

    def _descend(
        self, loss: Tensor, optimiser: torch.optim.Optimizer, epoch: int, number: int
    ) -> float:
        value = loss.item()
        if not math.isfinite(value):
            lr = optimiser.param_groups[0]["lr"]
            raise Diverged(
                f"the training loss is {value} in epoch {epoch + 1}, step {number + 1} (lr {lr:.3g}): "
                "lower the learning rate or the weight of the penalty"
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return value

    def _validate(self) -> float:
        if self.recipe.keep == "last":
            return math.nan
        x, y, ids = self.validation
        clean = self._accuracy(x, y)
        if self.selection is None:
            return clean
        threat = self.selection

        def attack(images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
            start = attacks.random_start(images, threat, draws)
            return attacks.pgd(
                self.model, images, labels, threat,
                steps=10, step_size=threat.eps / 4, start=start,
            )  # fmt: skip

        attacked = in_batches(attack, x, y, Draws(self.seed, ids).fork("validation"))
        return (clean + self._accuracy(attacked, y)) / 2

    def _accuracy(self, x: Tensor, y: Tensor) -> float:
        with attacks.frozen(self.model):
            return (predict(self.model, x) == y).float().mean().item()


def rate(schedule: str, progress: float) -> float:
    """Share of the recipe's learning rate at `progress` in 0..1."""
    return {
        "constant": lambda p: 1.0,
        "onecycle": lambda p: p / 0.3 if p < 0.3 else (1 + math.cos(math.pi * (p - 0.3) / 0.7)) / 2,
        "piecewise": lambda p: 0.1 ** ((p >= 0.5) + (p >= 0.75)),
    }[schedule](progress)


def augment(how: str, x: Tensor, draws: Draws) -> Tensor:
    """The images as the recipe's `augment` says, by random numbers of their own."""
    if how == "none":
        return x
    n, _, height, width = x.shape
    shift = (draws.fork("shift").uniform(2) * 9).long()
    rows = shift[:, :1] + torch.arange(height, device=x.device)
    columns = shift[:, 1:] + torch.arange(width, device=x.device)
    mirrored = draws.fork("mirror").uniform(1) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    number = torch.arange(n, device=x.device)[:, None, None]
    return padded[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    lr, decay = recipe.lr, recipe.weight_decay
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=decay)
    return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=decay)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
