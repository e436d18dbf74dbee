"""Threat models: which perturbations an adversary may make, as values.

Sizes are in pixel units of images in [0, 1]. Code that attacks asks the threat to project, to step and to start at
random, and never asks which norm it has.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # plans hold threats, and planning must not load torch
    from torch import Tensor

    from metrics.randomness import Draws


def column(values: Tensor, like: Tensor) -> Tensor:
    """(n,) -> (n, 1, ..., 1), to multiply with `like` of shape (n, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class ThreatModel(ABC):
    """The ball of perturbations of norm at most `eps` around an image, cut to [0, 1].

    `written` is eps as the user typed it ("8/255"), for tables; it does not take part in comparisons.
    """

    eps: float
    written: str = field(default="", compare=False)
    norm: ClassVar[str]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"eps must be a finite number >= 0, got {self.written or self.eps}")
        if not self.written:
            object.__setattr__(self, "written", f"{self.eps:g}")

    def __str__(self) -> str:
        return f"{self.norm} {self.written}"

    def scaled(self, factor: float) -> ThreatModel:
        """The same norm at `factor` times the radius; "8/255" halved is "4/255"."""
        above, slash, below = self.written.partition("/")
        whole = float(above) * factor if slash else 0.5
        written = f"{whole:g}/{below}" if whole.is_integer() else ""
        return type(self)(self.eps * factor, written)

    def project(self, x: Tensor, delta: Tensor) -> Tensor:
        """An allowed perturbation of `x` near this one: inside the ball, `x + delta` inside [0, 1].

        First onto the ball, then onto [0, 1]^d, as is usual: for Linf that is the nearest allowed one, for L2 it need
        not be where both bind. L1 projects onto both at once, because what the cut takes away is much of its ball.
        """
        # [0, 1]^d contains x, so the cut only shortens delta: the result is in the ball as well
        return (x + self.into_ball(delta)).clamp(0, 1) - x

    def ascend(self, x: Tensor, delta: Tensor, gradient: Tensor, size: float) -> Tensor:
        """The allowed perturbation of `x` that follows on `delta`: a step of norm `size` up the gradient, projected."""
        return self.project(x, delta + self.step(gradient, size))

    @abstractmethod
    def into_ball(self, delta: Tensor) -> Tensor:
        """Nearest point of the ball, shape kept."""

    @abstractmethod
    def step(self, gradient: Tensor, size: float) -> Tensor:
        """The steepest ascent step of norm `size` (zero where the gradient is zero)."""

    @abstractmethod
    def noise(self, x: Tensor, draws: Draws) -> Tensor:
        """A perturbation uniform in the ball (not yet cut to [0, 1])."""

    @abstractmethod
    def size(self, delta: Tensor) -> Tensor:
        """Norm of each perturbation, shape (n,)."""


class Linf(ThreatModel):
    """Every pixel may move by eps."""

    norm = "Linf"

    def into_ball(self, delta: Tensor) -> Tensor:
        return delta.clamp(-self.eps, self.eps)

    def step(self, gradient: Tensor, size: float) -> Tensor:
        return size * gradient.sign()

    def noise(self, x: Tensor, draws: Draws) -> Tensor:
        return (2 * draws.uniform(*x.shape[1:]) - 1) * self.eps

    def size(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().amax(1)


class L2(ThreatModel):
    """The Euclidean length of the perturbation may be eps."""

    norm = "L2"

    def into_ball(self, delta: Tensor) -> Tensor:
        length = self.size(delta).clamp_min(1e-12)
        return delta * column((self.eps / length).clamp_max(1), delta)

    def step(self, gradient: Tensor, size: float) -> Tensor:
        # by the largest entry first: the squares of a sure model's gradients are 0 in float32
        largest = gradient.flatten(1).abs().amax(1).clamp_min(1e-37)
        gradient = gradient / column(largest, gradient)
        return size * gradient / column(self.size(gradient).clamp_min(1e-12), gradient)

    def noise(self, x: Tensor, draws: Draws) -> Tensor:
        radius = draws.fork("radius").uniform(1).squeeze(1) ** (1 / x[0].numel())
        return self.step(draws.normal(*x.shape[1:]), self.eps) * column(radius, x)

    def size(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).norm(dim=1)


class L1(ThreatModel):
    """The sum of the changes of all pixels may be eps: few pixels, changed a lot.

    `SHARE` is the part of the entries that a step moves. The steepest step moves the largest alone and needs as many
    steps as there are pixels to change; that many equally large moves are the usual remedy (Tramer & Boneh 2019).
    """

    norm = "L1"
    SHARE: ClassVar[float] = 0.05

    def project(self, x: Tensor, delta: Tensor) -> Tensor:
        """The nearest allowed perturbation: inside the ball and `x + delta` inside [0, 1] (Croce & Hein 2021)."""
        room = x.where(delta < 0, 1 - x)  # how far an entry may go in the direction of its own sign
        return (x + self._nearest(delta, room)).clamp(0, 1) - x

    def ascend(self, x: Tensor, delta: Tensor, gradient: Tensor, size: float) -> Tensor:
        # a pixel that is black or white already cannot take its part of the step
        at = x + delta
        blocked = ((at >= 1 - 1e-6) & (gradient > 0)) | ((at <= 1e-6) & (gradient < 0))
        return self.project(x, delta + self.step(gradient.masked_fill(blocked, 0), size))

    def into_ball(self, delta: Tensor) -> Tensor:
        return self._nearest(delta, delta.abs())

    def step(self, gradient: Tensor, size: float) -> Tensor:
        count = max(1, round(self.SHARE * gradient[0].numel()))
        kept = gradient.flatten(1).abs().topk(count).values[:, -1]
        return size * self.spread(gradient, kept)

    def spread(self, gradient: Tensor, least: Tensor) -> Tensor:
        """Unit norm, shared equally by the entries of size at least `least` (n,), along their signs."""
        sign = gradient.sign() * (gradient.abs() >= column(least, gradient))
        return sign / column(self.size(sign).clamp_min(1), sign)

    def noise(self, x: Tensor, draws: Draws) -> Tensor:
        # d + 1 exponential numbers over their sum are uniform on the simplex
        share = -draws.uniform(x[0].numel() + 1).double().log()
        share = (share / share.sum(1, keepdim=True))[:, :-1].float().view_as(x)
        sign = (draws.fork("sign").uniform(*x.shape[1:]) - 0.5).sign()
        return self.eps * sign * share

    def size(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().sum(1)

    def _nearest(self, delta: Tensor, room: Tensor) -> Tensor:
        """Every entry is shortened by the same amount, at most to 0, and cut to its room.

        The least such amount for which the ball holds the rest, by Newton's method and bisection in turn. A row is
        settled by its own numbers alone, so the others in the batch do not matter.
        """
        length, room = delta.flatten(1).abs(), room.flatten(1)
        low, high = length.new_zeros(len(length)), length.amax(1)
        amount = low
        for number in range(64):
            left = (length - amount[:, None]).clamp_min(0)
            excess = left.minimum(room).sum(1) - self.eps
            unsettled = (excess > 1e-6 * self.eps) | ((excess < -1e-6 * self.eps) & (amount > 0))
            if not unsettled.any():
                break
            low, high = amount.where(excess > 0, low), high.where(excess > 0, amount)
            middle = (low + high) / 2
            shrinking = ((left > 0) & (left < room)).sum(1)
            newton = amount + excess / shrinking.clamp_min(1)
            usable = (newton > low) & (newton < high) & (number % 2 == 0)
            amount = newton.where(usable, middle).where(unsettled, amount)
        amount = high.where(unsettled, amount)  # float32 has no better one: stay inside
        return delta.sign() * (length - amount[:, None]).clamp_min(0).minimum(room).view_as(delta)


NORMS: dict[str, type[ThreatModel]] = {norm.norm: norm for norm in (Linf, L2, L1)}


def parse(text: str) -> ThreatModel:
    """A threat as it is written in suites and tables: "Linf 8/255", "L2 0.5", "L1 12".

    Raises ValueError that says what came and what would be valid.
    """
    norm, _, written = text.strip().partition(" ")
    written = written.strip()
    if norm not in NORMS:
        raise ValueError(
            f"unknown norm {norm!r} in threat {text!r}; valid: {', '.join(NORMS)}, as in 'Linf 8/255'"
        )
    try:
        eps = float(Fraction("/".join(part.strip() for part in written.split("/"))))
    except (ValueError, ArithmeticError):
        raise ValueError(
            f"threat {text!r} needs a radius after its norm, as in '{norm} 8/255' or '{norm} 0.5'"
        ) from None
    if norm == "Linf" and eps > 1:
        raise ValueError(
            f"threat {text!r}: images are in [0, 1], so 1 is every image there is; did you mean 'Linf {written}/255'?"
        )
    return NORMS[norm](eps, written)
