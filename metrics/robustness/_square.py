"""Square Attack: random search with square-shaped changes, without gradients (Andriushchenko et al. 2020)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.attacks import margin
from metrics.randomness import Draws
from metrics.threat import L1, L2, Linf, ThreatModel, column

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After how many queries the area of the squares is halved."""


def share(query: int, first: float) -> float:
    """Part of the image that the square of this query (from 0) covers."""
    return first / 2 ** sum(query > halving for halving in HALVINGS)


@torch.no_grad()
def search(
    model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, draws: Draws,
    *, squares: Squares, span: range, first: float,
) -> Tensor:  # fmt: skip
    """The perturbation after the queries `span`; a misclassified image is left as it is."""
    height, width = x.shape[-2:]
    reached = margin(model(x + delta), y)
    for query in span:
        if (reached > 0).all():
            break
        area = share(query, first) * height * width
        proposed = squares.change(x, delta, area**0.5, draws.fork(query))
        margins = margin(model(x + proposed), y)
        better = (reached <= 0) & (margins > reached)
        delta = proposed.where(column(better, x), delta)
        reached = margins.where(better, reached)
    return delta


class Squares(ABC):
    """How a perturbation of one norm is begun and changed; places, signs and turns are drawn for every image."""

    def __init__(self, threat: ThreatModel) -> None:
        self.threat = threat

    @abstractmethod
    def begin(self, x: Tensor, draws: Draws) -> Tensor:
        """The first perturbation of each image."""

    @abstractmethod
    def change(self, x: Tensor, delta: Tensor, side: float, draws: Draws) -> Tensor:
        """The perturbation, changed in a square of about this side somewhere."""


class Corners(Squares):
    """Linf: vertical stripes of +-eps, then squares of +-eps, a sign for each channel."""

    def begin(self, x: Tensor, draws: Draws) -> Tensor:
        stripes = _signs(draws.uniform(x.shape[1], 1, x.shape[3])).expand_as(x)
        return self.threat.project(x, self.threat.eps * stripes)

    def change(self, x: Tensor, delta: Tensor, side: float, draws: Draws) -> Tensor:
        edge = min(max(round(side), 1), *x.shape[-2:])
        u = draws.uniform(2 + x.shape[1])
        square = _inside(x, _place(x, edge, u), edge)
        signs = _signs(u[:, 2:, None, None])
        return self.threat.project(x, (self.threat.eps * signs).where(square, delta))


class Bumps(Squares):
    """L2 and L1: what one window holds moves to another one, and a bump of random signs is added there."""

    power: ClassVar[int]
    """Of the norm."""
    decay: ClassVar[int]
    """How steep a bump is."""
    stress: ClassVar[float] = 1
    """The changed window beside its budget."""

    @abstractmethod
    def fit(self, x: Tensor, delta: Tensor) -> Tensor:
        """The allowed perturbation that this one stands for."""

    def begin(self, x: Tensor, draws: Draws) -> Tensor:
        _, channels, height, width = x.shape
        edge = max(min(height, width) // 5, 1)
        down, across = height // edge, width // edge
        u = draws.uniform(1 + channels, down, across, 1, 1)
        tiles = _signs(u[:, 1:]) * self._turned(x, edge, u[:, :1])
        field = tiles.transpose(3, 4).reshape(len(x), channels, down * edge, across * edge)
        top, left = (height - down * edge) // 2, (width - across * edge) // 2
        bottom, right = height - down * edge - top, width - across * edge - left
        return self.fit(x, self.unit(F.pad(field, (left, right, top, bottom)), 3) * self.threat.eps)

    def change(self, x: Tensor, delta: Tensor, side: float, draws: Draws) -> Tensor:
        edge = min(max(round(side), 3) // 2 * 2 + 1, *x.shape[-2:])
        u = draws.uniform(5 + x.shape[1])
        to, source = _place(x, edge, u), _place(x, edge, u[:, 2:])
        window, left = _window(x, to, edge), _inside(x, source, edge)
        both = self._amount(delta * (_inside(x, to, edge) | left), 2)
        unused = (self.threat.eps**self.power - self._amount(delta, 3)).clamp_min(0)
        bump = self._turned(x, edge, u[:, 4, None, None, None]) * _signs(u[:, 5:, None, None])
        size = (unused / x.shape[1] + both) ** (1 / self.power)
        changed = delta.masked_fill(left, 0)
        changed[window] = self.unit(bump + self.unit(delta[window], 2), 2) * size * self.stress
        return self.fit(x, changed)

    def unit(self, values: Tensor, dims: int) -> Tensor:
        """Norm 1 over the last dimensions."""
        return values / (self._amount(values, dims) ** (1 / self.power)).clamp_min(1e-12)

    def _amount(self, values: Tensor, dims: int) -> Tensor:
        """The norm to its power, over the last dimensions."""
        return values.abs().pow(self.power).sum(tuple(range(-dims, 0)), keepdim=True)

    def _turned(self, x: Tensor, edge: int, u: Tensor) -> Tensor:
        """A bump beside a dent, one above the other or (where u is above 1/2) one beside the other."""
        halves = [self._bump(edge // 2, edge), -self._bump(edge - edge // 2, edge)]
        bump = self.unit(torch.cat(halves).to(x.device), 2)
        return bump.T.where(u > 0.5, bump)

    def _bump(self, height: int, width: int) -> Tensor:
        """Squares of all sizes around the middle, weighted by size to the power of -decay, norm 1."""
        down = (torch.arange(height) - height // 2).abs()[:, None]
        across = (torch.arange(width) - width // 2).abs()[None]
        weights = torch.arange(1, max(height, width) // 2 + 2).float() ** -self.decay
        return self.unit(weights.flip(0).cumsum(0).flip(0)[down.maximum(across)], 2)


class L2Bumps(Bumps):
    """As in the paper: the whole ball is used, then the range cuts."""

    power, decay = 2, 2

    def fit(self, x: Tensor, delta: Tensor) -> Tensor:
        return self.threat.project(x, self.threat.eps * self.unit(delta, 3))


class L1Bumps(Bumps):
    """As in AutoAttack: onto the ball and the range at once.

    The new window gets more than its budget, for which the projection takes from all windows alike, so that what is
    small vanishes and the perturbation stays sparse.
    """

    power, decay, stress = 1, 4, 3

    def fit(self, x: Tensor, delta: Tensor) -> Tensor:
        return self.threat.project(x, delta)


SQUARES: dict[type[ThreatModel], type[Squares]] = {Linf: Corners, L2: L2Bumps, L1: L1Bumps}


def _signs(u: Tensor) -> Tensor:
    return (u - 0.5).sign()


def _place(x: Tensor, edge: int, u: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column (n,) at which a square of this edge begins, from two uniform numbers each."""
    free = [length - edge for length in x.shape[-2:]]
    row, column = ((u[:, i] * (n + 1)).long().clamp_max(n) for i, n in enumerate(free))
    return row, column


def _inside(x: Tensor, place: tuple[Tensor, Tensor], edge: int) -> Tensor:
    """Which pixels lie in the square, shape (n, 1, H, W)."""
    row, column = (
        (torch.arange(length, device=x.device) - begin[:, None]).clamp(-1, edge)
        for begin, length in zip(place, x.shape[-2:], strict=True)
    )
    rows, columns = ((at >= 0) & (at < edge) for at in (row, column))
    return rows[:, None, :, None] & columns[:, None, None, :]


def _window(x: Tensor, place: tuple[Tensor, Tensor], edge: int) -> tuple[Tensor, ...]:
    """Indices of the square in every channel: `x[index]` has shape (n, C, edge, edge)."""
    steps = torch.arange(edge, device=x.device)
    rows, columns = (begin[:, None] + steps for begin in place)
    images = torch.arange(len(x), device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return images, channels, rows[:, None, :, None], columns[:, None, None, :]
