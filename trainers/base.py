"""What a training method is. The one loop that all of them share is in `_loop.py`.

Most methods are a loss on a batch: `@from_loss` lifts such a function into a `Trainer`. A method that first needs
something of its own (a teacher, a critic, statistics of the data) makes its loss from a `Setup`: `@from_objective`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from metrics.randomness import Draws
from metrics.threat import ThreatModel
from trainers._cost import NOTHING, Cost
from trainers.recipe import Recipe


class Diverged(Exception):
    """The loss is no longer a finite number; the message says where."""


class Images(NamedTuple):
    """Images (n, C, H, W) in [0, 1], labels (n,), and identities (n,), on the device of the training."""

    x: Tensor
    y: Tensor
    ids: Tensor


class _Threatened:
    """What has a threat to train against, or none."""

    threat_or_none: ThreatModel | None

    @property
    def threat(self) -> ThreatModel:
        """The threat to train against; ValueError without one."""
        if self.threat_or_none is None:
            raise ValueError("this trainer needs a threat, as in threat = 'Linf 8/255'")
        return self.threat_or_none


@dataclass(frozen=True)
class Step(_Threatened):
    """What a loss may use beside model and batch."""

    draws: Draws
    """Random numbers of the batch's images in this step: fork them, never the global generator."""
    progress: float
    """Share of the training done, 0..1."""
    threat_or_none: ThreatModel | None
    lr: float
    """The optimiser's learning rate in this step, for what a method trains beside the model."""


@dataclass(frozen=True)
class Setup(_Threatened):
    """What a method may use before its first step."""

    train: Images
    validation: Images
    recipe: Recipe
    threat_or_none: ThreatModel | None
    selection: ThreatModel | None
    """What the checkpoint is chosen under."""
    seed: int


class Stateful(Protocol):
    """Anything that a snapshot of an unfinished training has to hold: modules, optimisers."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Take a state on."""


@dataclass(frozen=True)
class Objective:
    """The loss of a batch, and what it keeps from step to step beside the model."""

    loss: Callable[[Tensor, Tensor, Step], Tensor]
    """(x, y, step) -> scalar loss of the batch; the loop differentiates it and takes the optimiser's step."""
    state: Mapping[str, Stateful] = field(default_factory=dict)
    """What the loss changes from step to step, by name."""
    replays: int = 1
    """How many times in a row each batch is used, an optimiser's step each."""
    before: Cost = NOTHING
    """What was spent before the first step, in epochs: the cost of a batch times their number."""
    settled: float = 0.0
    """The share of the training after which the loss is the method's own: no epoch that ends before is kept as the best
    of those that end after it."""


class Epoch(NamedTuple):
    """One row of the training log."""

    epoch: int
    loss: float
    """Mean training loss."""
    validation: float
    """What chooses the checkpoint: mean of clean and PGD-10 accuracy on the validation split; NaN if not computed."""
    lr: float
    """Learning rate of its last step."""
    seconds: float
    """With the validation; the first epoch's with all that the method prepares."""


@dataclass(frozen=True)
class Trained:
    """A trained model in eval mode, the log, the epoch whose weights it has, and what each batch of images cost."""

    model: nn.Module
    log: list[Epoch]
    kept: int
    cost: Cost


class Snapshots(Protocol):
    """Where an unfinished training is kept, so that it can be continued."""

    def load(self) -> dict[str, Any] | None:
        """The last snapshot of this training; none if it begins."""

    def offer(self, make: Callable[[], dict[str, Any]]) -> None:
        """Asked after every epoch: keep what `make` returns, if it is time to."""


OnEpoch = Callable[[Epoch], None]
Loss = Callable[..., Tensor]
"""(model, x, y, step, *, settings) -> scalar loss of the batch."""
MakeObjective = Callable[..., Objective]
"""(model, setup, *, settings) -> objective."""


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
        snapshots: Snapshots | None = ...,
        **settings: object,
    ) -> Trained:
        """Train; raises Diverged when the loss is not finite.

        `threat` is what the method trains against, `selection` what its checkpoint is chosen under (none: `threat`).
        With `snapshots` a training that was interrupted continues, to the same weights.
        """


def from_objective(make: MakeObjective) -> Trainer:
    """Lift a function that makes an objective: `@from_objective def jarn(model, setup, *, weight=1.0)`."""

    @wraps(make)
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
        snapshots: Snapshots | None = None,
        **settings: object,
    ) -> Trained:
        from trainers._loop import Loop  # it needs the types above

        began = time.perf_counter()
        setup = Setup(train, validation, recipe, threat, selection or threat, seed)
        loop = Loop(model, setup, make(model, setup, **settings))
        return loop.run(began, on_epoch, snapshots)

    return trainer


def from_loss(loss: Loss) -> Trainer:
    """Lift a loss on a batch into a trainer: `@from_loss def trades(model, x, y, step, *, beta=6.0)`."""

    @wraps(loss)
    def make(model: nn.Module, setup: Setup, **settings: object) -> Objective:
        return Objective(lambda x, y, step: loss(model, x, y, step, **settings))

    return from_objective(make)
