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


def _column(values: Tensor, like: Tensor) -> Tensor:
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
        not be where both bind.
        """
        # [0, 1]^d contains x, so the cut only shortens delta: the result is in the ball as well
        return (x + self.into_ball(delta)).clamp(0, 1) - x

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
        return delta * _column((self.eps / length).clamp_max(1), delta)

    def step(self, gradient: Tensor, size: float) -> Tensor:
        # by the largest entry first: the squares of a sure model's gradients are 0 in float32
        largest = gradient.flatten(1).abs().amax(1).clamp_min(1e-37)
        gradient = gradient / _column(largest, gradient)
        return size * gradient / _column(self.size(gradient).clamp_min(1e-12), gradient)

    def noise(self, x: Tensor, draws: Draws) -> Tensor:
        radius = draws.fork("radius").uniform(1).squeeze(1) ** (1 / x[0].numel())
        return self.step(draws.normal(*x.shape[1:]), self.eps) * _column(radius, x)

    def size(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).norm(dim=1)


NORMS: dict[str, type[ThreatModel]] = {norm.norm: norm for norm in (Linf, L2)}


def parse(text: str) -> ThreatModel:
    """A threat as it is written in suites and tables: "Linf 8/255", "L2 0.5".

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
    return NORMS[norm](eps, written)
