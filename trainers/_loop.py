"""The loop that all training methods share: epochs of optimiser steps in a keyed order, with a checkpoint chosen."""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from metrics import attacks
from metrics.batching import in_batches, predict
from metrics.randomness import Draws
from metrics.threat import ThreatModel
from trainers._cost import Cost, Meter, standard_operations
from trainers._optimisation import augment, averaged, batches, laid_out, optimiser, set_rate
from trainers.base import (
    Diverged,
    Epoch,
    Objective,
    OnEpoch,
    Setup,
    Snapshots,
    Stateful,
    Step,
    Trained,
)

_METERED = 100
"""Steps of a training whose cost is measured."""

_PAID = 40
"""Steps whose mean cost says how many epochs a budget pays for."""


class Loop:
    """Epochs of optimiser steps in a keyed order, with the checkpoint chosen on the validation split."""

    def __init__(self, model: nn.Module, setup: Setup, objective: Objective) -> None:
        self.model, self.setup, self.objective = laid_out(model, setup.recipe), setup, objective
        self.recipe, self.seed = setup.recipe, setup.seed
        self.optimiser = optimiser(model, setup.recipe)
        self.average = averaged(model, setup.recipe)
        self.standard: dict[int, int] = {}
        self.batches = len(self._batches(0))
        self.epochs = self._affordable()
        # 0.29 of 100 epochs is less than 29 in floating point
        self.first = math.floor(objective.settled * self.epochs + 1e-9)
        self.metered = _spread(self.epochs * self._steps, setup.seed)
        self.log: list[Epoch] = []
        self.costs: list[Cost] = []
        self.best, self.kept, self.weights = -math.inf, 0, _copy(model)

    def run(self, began: float, on_epoch: OnEpoch, snapshots: Snapshots | None) -> Trained:
        """Train, from the last snapshot on if there is one. The first epoch's time counts from `began`."""
        snapshot = snapshots.load() if snapshots else None
        if snapshot:
            self._restore(snapshot)
            for epoch in self.log:
                on_epoch(epoch)
        for number in range(len(self.log), self.epochs):
            loss, lr = self._epoch(number)
            score = self._validate()
            # NaN (keep = "last") and equal scores take the later epoch
            if number <= self.first or not score < self.best:
                self.best, self.kept, self.weights = score, number, _copy(self._candidate())
            ended = time.perf_counter()
            self.log.append(Epoch(number, loss, score, lr, ended - began))
            began = ended
            on_epoch(self.log[-1])
            if snapshots and len(self.log) < self.epochs:
                snapshots.offer(self._snapshot)
        self.model.load_state_dict(self.weights)
        self.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self._check_outputs()
        return Trained(self.model.eval(), self.log, self.kept, self._cost())

    def _check_outputs(self) -> None:
        """Diverged if the kept weights, which no loss may have been computed with yet, give no finite number."""
        with torch.no_grad(), attacks.frozen(self.model):
            logits = self.model(self.setup.train.x[: self.recipe.batch_size])
        if not bool(logits.isfinite().all()):
            raise Diverged(
                f"the model of epoch {self.kept + 1} gives logits that are not finite: lower the learning rate"
            )

    def _cost(self) -> Cost:
        """The mean cost of a step, with its share of what was spent before the first."""
        parts = zip(_mean(self.costs), self.objective.before, strict=True)
        passes = len(self.log) * self.objective.replays
        return Cost(*(own + before / passes for own, before in parts))

    def _epoch(self, epoch: int) -> tuple[float, float]:
        """Mean loss, and the last step's learning rate."""
        self.model.train()
        total, replays = 0.0, self.objective.replays
        for number, batch in enumerate(self._batches(epoch)):
            for replay in range(replays):
                at = number * replays + replay
                total += self._step(epoch, at, batch) * len(batch) / replays
        return total / len(self.setup.train.y), self.optimiser.param_groups[0]["lr"]

    def _step(self, epoch: int, number: int, batch: Tensor) -> float:
        """One optimiser step; returns the loss."""
        done, steps = epoch * self._steps + number, self._steps * self.epochs
        set_rate(self.optimiser, self.recipe, done, steps)
        meter = self._meter(batch) if done in self.metered else None
        with meter or nullcontext():
            value = self._descend(batch, epoch, number)
        if meter:
            self.costs.append(meter.cost)
        self.optimiser.step()
        if self.average:
            self.average.update_parameters(self.model)
        return value

    def _descend(self, batch: Tensor, epoch: int, number: int) -> float:
        """The loss of a step, its gradients in the parameters; Diverged if it is no finite number."""
        keyed = Draws(self.seed, self.setup.train.ids[batch])
        # a replay sees the same augmented images as the first use of its batch
        shown = keyed.fork("step", epoch, number // self.objective.replays)
        x = augment(self.recipe.augment, self.setup.train.x[batch], shown)
        progress = (epoch + number / self._steps) / self.epochs
        draws = keyed.fork("step", epoch, number)
        loss = self._loss(x, batch, self._at(draws, progress))
        value = loss.item()
        if not math.isfinite(value):
            lr = self.optimiser.param_groups[0]["lr"]
            raise Diverged(
                f"the training loss is {value} in epoch {epoch + 1}, step {number + 1} (lr {lr:.3g}): "
                "lower the learning rate or the weight of the penalty"
            )
        self.optimiser.zero_grad()
        loss.backward()
        return value

    def _loss(self, x: Tensor, batch: Tensor, step: Step) -> Tensor:
        # a cast kept from a pass without gradients would cut the weights off from those with
        with torch.autocast(
            x.device.type,
            torch.bfloat16,
            enabled=self.recipe.precision == "bfloat16",
            cache_enabled=False,
        ):
            loss = self.objective.loss(x, self.setup.train.y[batch], step)
        if loss.numel() != 1:
            raise ValueError(f"the loss must be one number, got {tuple(loss.shape)}")
        return loss

    def _at(self, draws: Draws, progress: float) -> Step:
        return Step(draws, progress, self._threat(progress), self.optimiser.param_groups[0]["lr"])

    def _threat(self, progress: float) -> ThreatModel | None:
        """What is trained against by now."""
        threat, ramp = self.setup.threat_or_none, self.recipe.eps_ramp
        return threat.scaled(progress / ramp) if threat and progress < ramp else threat

    def _affordable(self) -> int:
        """How often the images are gone through: each replay of a batch counts as a pass, which an epoch is."""
        by_cost = self.recipe.budget == "cost"
        passes = self._paid() if by_cost else self.recipe.epochs
        return max(1, round(passes / self.objective.replays))

    def _paid(self) -> float:
        """How many passes a budget of cost pays for, by the cost of steps of all phases, which are then undone."""
        batch, before, costs = self._batches(0)[0], copy.deepcopy(self._live()), []
        generators = self._generators()
        draws = Draws(self.seed, self.setup.train.ids[batch]).fork("cost")
        x = self.setup.train.x[batch]
        self.model.train()
        for i in range(_PAID):
            with self._meter(batch) as meter:
                self._loss(x, batch, self._at(draws, (i + 0.5) / _PAID)).backward()
            costs.append(meter.cost)
        self.optimiser.zero_grad()
        self._set(before)
        self._set_generators(generators)
        return (self.recipe.epochs - self.objective.before.work) / _mean(costs).work

    def _meter(self, batch: Tensor) -> Meter:
        if len(batch) not in self.standard:
            x, y = self.setup.train.x[batch], self.setup.train.y[batch]
            self.standard[len(batch)] = standard_operations(self.model, x, y)
        return Meter(self.model, len(batch), self.standard[len(batch)])

    @property
    def _steps(self) -> int:
        """Optimiser steps in an epoch."""
        return self.batches * self.objective.replays

    def _batches(self, epoch: int) -> tuple[Tensor, ...]:
        return batches(self.setup.train.ids, self.recipe, self.seed, epoch)

    def _candidate(self) -> nn.Module:
        """The weights that may be kept: the average's if there is one."""
        return self.average.module if self.average else self.model

    def _validate(self) -> float:
        if self.recipe.keep == "last":
            return math.nan
        x, y, ids = self.setup.validation
        model, threat = self._candidate(), self.setup.selection
        clean = _accuracy(model, x, y)
        if threat is None:
            return clean

        def attack(images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
            start = attacks.random_start(images, threat, draws)
            return attacks.pgd(
                model, images, labels, threat, steps=10, step_size=threat.eps / 4, start=start
            )

        attacked = in_batches(attack, x, y, Draws(self.seed, ids).fork("validation"))
        return (clean + _accuracy(model, attacked, y)) / 2

    def _live(self) -> dict[str, Any]:
        """The state of everything that a step changes."""
        parts: dict[str, Stateful] = {"model": self.model, "optimiser": self.optimiser}
        parts |= {f"objective.{name}": part for name, part in self.objective.state.items()}
        if self.average:
            parts["average"] = self.average
        return {name: part.state_dict() for name, part in parts.items()}

    def _set(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, part in self.objective.state.items():
            part.load_state_dict(state[f"objective.{name}"])
        if self.average:
            self.average.load_state_dict(state["average"])

    def _snapshot(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, as plain data."""
        return {
            "live": self._live(), "weights": self.weights, "log": [tuple(epoch) for epoch in self.log],
            "best": self.best, "kept": self.kept, "costs": [tuple(cost) for cost in self.costs],
            "generators": self._generators(),
        }  # fmt: skip

    def _restore(self, snapshot: Mapping[str, Any]) -> None:
        self._set(snapshot["live"])
        self.weights, self.best, self.kept = (
            snapshot[name] for name in ("weights", "best", "kept")
        )
        self.log = [Epoch(*row) for row in snapshot["log"]]
        self.costs = [Cost(*row) for row in snapshot["costs"]]
        if generators := snapshot.get("generators"):  # an older snapshot has none
            self._set_generators(generators)

    def _generators(self) -> dict[str, Tensor]:
        """States of torch's own generators, which draw nothing of ours but the dropout of a user's network."""
        states, device = {"cpu": torch.get_rng_state()}, self.setup.train.x.device
        if device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        return states

    def _set_generators(self, states: Mapping[str, Tensor]) -> None:
        # a snapshot is read onto the training's device; states are set from the CPU
        torch.set_rng_state(states["cpu"].cpu())
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"].cpu(), self.setup.train.x.device)


def _spread(steps: int, seed: int) -> frozenset[int]:
    """Steps all over a training, one at random in each of equal parts: methods have phases, and rhythms."""
    parts, draw = min(_METERED, steps), random.Random(seed)
    return frozenset(int((part + draw.random()) * steps / parts) for part in range(parts))


def _mean(costs: list[Cost]) -> Cost:
    return Cost(*(sum(part) / len(costs) for part in zip(*costs, strict=True)))


def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with attacks.frozen(model):
        return (predict(model, x) == y).float().mean().item()


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
