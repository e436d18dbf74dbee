"""FAB: the nearest misclassified image, by moves onto the linearised decision boundary (Croce & Hein 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metrics.attacks import input_gradient, margin
from metrics.randomness import Draws
from metrics.robustness._rounds import pick, rival
from metrics.threat import L1, L2, Linf, ThreatModel, column

OVERSHOOT = 1.05
"""How far beyond the boundary a move goes."""
BACK = 0.9
"""Part of the way from the image that is kept when the other side is reached."""
TOWARDS_IMAGE = 0.1
"""The most that the move from the image itself may count beside the move from where the search is."""


def nearest(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws,
    *, rank: int, restart: int, steps: int,
) -> Tensor:  # fmt: skip
    """The nearest misclassified image met on the way to the boundary with another class; x itself if none was.

    The class is the `rank`-th by its logit on x. The search starts at x, and restarts in half the ball around it; that
    apart, the threat's radius does not matter.
    """
    with torch.no_grad():
        target = rival(model(x), y, rank)
    here = x + threat.project(x, threat.noise(x, draws) / 2) if restart else x
    found, least = x, x.new_full((len(x),), torch.inf)
    for _ in range(steps):
        gap, slope = _gap(model, here, y, target)
        from_image = gap + (slope * (x - here)).flatten(1).sum(1)
        here = _move(x, here, slope, -gap, -from_image, threat)
        with torch.no_grad():
            beyond = margin(model(here), y) > 0
        size = threat.size(here - x)
        better = beyond & (size < least)
        found, least = pick(better, here, found), size.where(better, least)
        here = pick(beyond, x + BACK * (here - x), here)
    return found


@torch.no_grad()
def shortened(model: nn.Module, x: Tensor, y: Tensor, found: Tensor, halvings: int = 10) -> Tensor:
    """The misclassified image nearest to x on the line from x to `found`, by bisection."""
    low, high = x.new_zeros(len(x)), x.new_ones(len(x))
    for _ in range(halvings):
        middle = (low + high) / 2
        beyond = margin(model(x + column(middle, x) * (found - x)), y) > 0
        low, high = low.where(beyond, middle), middle.where(beyond, high)
    return x + column(high, x) * (found - x)


def on_plane(x: Tensor, slope: Tensor, rise: Tensor, threat: ThreatModel) -> Tensor:
    """The smallest move within [0, 1] along which a function of this slope rises by `rise` (n,); shape of x.

    Where [0, 1] has no room for it, the move that rises most.
    """
    slope = (slope * column(rise.sign(), slope)).flatten(1)
    room = (1 - x.flatten(1)).where(slope > 0, x.flatten(1)) * (slope != 0)
    # by the largest entry first: the squares of a faint gradient are 0 in float32
    scale = slope.abs().amax(1, keepdim=True).clamp_min(1e-30)
    length = _LENGTHS[type(threat)](slope.abs() / scale, room, rise.abs()[:, None] / scale)
    return (slope.sign() * length).view_as(x)


def _move(
    x: Tensor, here: Tensor, slope: Tensor, rise: Tensor, rise_from_image: Tensor, threat: ThreatModel
) -> Tensor:  # fmt: skip
    """Onto the plane and a little beyond, from where the search is and from the image itself, averaged."""
    near = on_plane(here, slope, rise, threat)
    far = on_plane(x, slope, rise_from_image, threat)
    sizes = threat.size(near).clamp_min(1e-8), threat.size(far).clamp_min(1e-8)
    part = column((sizes[0] / (sizes[0] + sizes[1])).clamp_max(TOWARDS_IMAGE), x)
    return ((1 - part) * (here + OVERSHOOT * near) + part * (x + OVERSHOOT * far)).clamp(0, 1)


def _gap(model: nn.Module, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """z_target - z_y (n,), and its gradient."""
    seen = []

    def score(images: Tensor) -> Tensor:
        logits = model(images)
        gap = logits.gather(1, target[:, None])[:, 0] - logits.gather(1, y[:, None])[:, 0]
        seen.append(gap.detach())
        return gap

    gradient = input_gradient(score, x)
    return seen[0], gradient


def _together(weight: Tensor, room: Tensor, rise: Tensor, speed: Tensor) -> Tensor:
    """All entries grow at their speed until their room is used up, and until the sum of weight x length is `rise`.

    The time that takes is found from below: as if no more entries than now were to run out of room.
    """
    time = torch.zeros_like(rise)
    for _ in range(weight.shape[1]):
        full = speed * time >= room
        growing = (weight * speed).masked_fill(full, 0).sum(1, keepdim=True)
        missing = rise - (weight * room).masked_fill(~full, 0).sum(1, keepdim=True)
        later = (missing / growing.clamp_min(1e-30)).clamp_max(1e30).maximum(time)
        if torch.equal(later, time):
            break
        time = later
    return (speed * time).minimum(room)


def _one_by_one(weight: Tensor, room: Tensor, rise: Tensor) -> Tensor:
    """The entry of the largest weight grows first, until its room is used up, then the next."""
    weight, order = weight.sort(dim=1, descending=True, stable=True)
    room = room.gather(1, order)
    before = (weight * room).cumsum(1) - weight * room
    length = ((rise - before) / weight.clamp_min(1e-30)).clamp_min(0).minimum(room)
    return torch.zeros_like(length).scatter(1, order, length)


_LENGTHS: dict[type[ThreatModel], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    Linf: lambda weight, room, rise: _together(weight, room, rise, torch.ones_like(weight)),
    L2: lambda weight, room, rise: _together(weight, room, rise, weight),
    L1: _one_by_one,
}
"""(|slope|, room, rise) of shape (n, d), (n, d), (n, 1) -> how far each entry moves."""
