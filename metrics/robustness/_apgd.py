"""Auto-PGD: projected gradient ascent that sets its own step size (Croce & Hein 2020; 2021 for L1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metrics.attacks import Loss, input_gradient, margin
from metrics.robustness._rounds import pick
from metrics.threat import L1, ThreatModel, column

MOMENTUM = 0.75
"""Part of a move that is the new step; the rest repeats the last move."""
RISES = 0.75
"""Share of the steps between two checkpoints that must raise the loss, or else the step size is halved."""


def dlr_targeted(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Targeted difference of logits ratio, shape (n,); it needs 4 logits: with fewer classes z_target - z_y."""
    lead = logits.gather(1, target[:, None])[:, 0] - logits.gather(1, y[:, None])[:, 0]
    if logits.shape[1] < 4:
        return lead
    top = logits.topk(4).values
    return lead / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def checkpoints(steps: int) -> set[int]:
    """The steps after which the step size may be halved: at 22 % of all, then in intervals falling from 19 to 6 %."""
    percents = [0, 22]
    while percents[-1] < 100:
        percents.append(percents[-1] + max(percents[-1] - percents[-2] - 3, 6))
    return {-(-percent * steps // 100) for percent in percents[1:]}


def apgd(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, loss: Loss,
    *, start: Tensor, steps: int,
) -> Tensor:  # fmt: skip
    """The first misclassified image on the way up the loss, or else that of the largest margin; shape of x."""

    def look(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen: list[Tensor] = []

        def score(images: Tensor) -> Tensor:
            logits = model(images)
            values = loss(logits, y)
            seen.extend((values.detach(), margin(logits.detach(), y)))
            return values

        gradient = input_gradient(score, images)
        return seen[0], gradient, seen[1]

    climb = _sparse if isinstance(threat, L1) else _dense
    return climb(look, x, threat, start, steps)


Look = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Images -> their loss (n,), its gradient, and their margin (n,)."""


class Walk:
    """Where each image's ascent is, its highest point so far, and what it has found.

    `found` is settled at the first misclassified image. So a loop that ends when all images are broken gives each of
    them what it would have had alone.
    """

    def __init__(self, look: Look, x: Tensor, start: Tensor) -> None:
        self.look, self.x = look, x
        self.delta, self.found, self.top, self.top_gradient = start, x, start, torch.zeros_like(x)
        self.reached = self.top_loss = x.new_full((len(x),), -torch.inf)
        self.visit(start)

    def visit(self, delta: Tensor) -> None:
        """Go there, and keep what is better than before."""
        self.last, self.delta = self.delta, delta
        self.loss, self.gradient, margins = self.look(self.x + delta)
        nearer = (self.reached <= 0) & (margins > self.reached)
        self.found = pick(nearer, self.x + delta, self.found)
        self.reached = margins.where(nearer, self.reached)
        higher = self.loss > self.top_loss
        self.top = pick(higher, delta, self.top)
        self.top_gradient = pick(higher, self.gradient, self.top_gradient)
        self.top_loss = self.loss.where(higher, self.top_loss)

    def back_to_top(self, which: Tensor) -> None:
        """Go on from the highest point."""
        self.delta = pick(which, self.top, self.delta)
        self.gradient = pick(which, self.top_gradient, self.gradient)
        self.loss = self.top_loss.where(which, self.loss)

    def done(self) -> bool:
        """All are misclassified."""
        return bool((self.reached > 0).all())


def _dense(look: Look, x: Tensor, threat: ThreatModel, start: Tensor, steps: int) -> Tensor:
    """Linf and L2: steps with momentum, halved where the loss stalls."""
    walk, marks, since = Walk(look, x, start), checkpoints(steps), 0
    size = x.new_full((len(x),), 2 * threat.eps)
    rises, halved, top_before = torch.zeros_like(size), size < 0, walk.top_loss
    for step in range(1, steps + 1):
        loss, part = walk.loss, MOMENTUM if step > 1 else 1.0
        ahead = threat.project(x, walk.delta + column(size, x) * threat.step(walk.gradient, 1))
        move = part * (ahead - walk.delta) + (1 - part) * (walk.delta - walk.last)
        walk.visit(threat.project(x, walk.delta + move))
        rises += walk.loss > loss
        if walk.done():
            break
        if step in marks:
            halved = (rises < RISES * (step - since)) | (~halved & (walk.top_loss == top_before))
            size = (size / 2).where(halved, size)
            walk.back_to_top(halved)
            rises, since, top_before = torch.zeros_like(size), step, walk.top_loss
    return walk.found


def _sparse(look: Look, x: Tensor, threat: ThreatModel, start: Tensor, steps: int) -> Tensor:
    """L1: steps along few entries, as many as the best perturbation has; first in balls of 3 and of 2 times eps."""
    assert isinstance(threat, L1)
    delta, found, early, every = start, x, round(0.3 * steps), max(1, round(0.04 * steps))
    for times, part in ((3, early), (2, early), (1, steps - 2 * early)):
        walk = _sparse_stage(look, x, L1(times * threat.eps), delta, part, every, last=times == 1)
        delta, found = walk.top, walk.found
    return found


def _sparse_stage(
    look: Look, x: Tensor, ball: L1, start: Tensor, steps: int, every: int, *, last: bool
) -> Walk:
    walk = Walk(look, x, ball.project(x, start))
    size, entries = x.new_full((len(x),), ball.eps), _entries(walk.delta)
    for step in range(1, steps + 1):
        if last and walk.done():
            break
        count = (entries / 1.5).long().clamp_min(1)
        sizes = walk.gradient.flatten(1).abs().sort(dim=1, descending=True).values
        least = sizes.gather(1, count[:, None] - 1)[:, 0]
        walk.visit(
            ball.project(x, walk.delta + column(size, x) * ball.spread(walk.gradient, least))
        )
        if step % every == 0:
            before, entries = entries, _entries(walk.top)
            sparser = entries < 0.95 * before
            size = (size / 1.5).clamp_min(ball.eps / 10).masked_fill(sparser, ball.eps)
            walk.back_to_top(sparser)
    return walk


def _entries(delta: Tensor) -> Tensor:
    """How many entries are not 0, shape (n,)."""
    return (delta != 0).flatten(1).sum(1)
