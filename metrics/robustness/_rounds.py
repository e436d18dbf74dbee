"""What the attacks share: equal batches, classes to aim at, and rounds with the images that still hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.batching import in_slices
from metrics.case import Case
from metrics.randomness import Draws
from metrics.threat import column

Attack = Callable[[Tensor, Tensor, Draws], Tensor]
"""(images, labels, draws) -> attacked images, each a function of its own image, label and draws alone."""

_SIZES = {"cpu": 64, "cuda": 512}
_LANES = 16


def in_equal_batches(
    function: Callable[..., Tensor], *tensors: Tensor | Draws, size: int | None = None
) -> Tensor:
    """`function` over parts of the tensors (and draws) that all have the same number of rows, joined again.

    For another number of rows, and for rows that begin elsewhere between two multiples of 64 bytes, matrix products are
    summed in another order. So every batch is filled up, and an image has its row modulo 16 (its lane) by its identity
    in the draws. What comes out for it does not depend, to the last bit on a CPU, on the images computed with it.
    Without draws among the tensors the images are known by their order alone. `size`: rows of a batch, by default as
    many as the device takes.
    """
    known = [tensor.ids for tensor in tensors if isinstance(tensor, Draws)]
    slots = _slots(known[0] if known else _numbers(tensors[0]))
    size = size or _SIZES.get(slots.device.type, 256)
    rows = slots.new_zeros(-(-int(slots.max() + 1) // size) * size)
    rows[slots] = torch.arange(len(slots), device=slots.device)

    def filled(part: slice) -> Tensor:
        return function(*(tensor[rows[part]] for tensor in tensors))

    return in_slices(filled, len(rows), size)[slots]


def _numbers(like: Tensor | Draws) -> Tensor:
    assert isinstance(like, Tensor)
    return torch.arange(len(like), device=like.device)


def _slots(ids: Tensor) -> Tensor:
    """A place for each image, no two the same: its lane, and in the lane behind those that came before."""
    lane = lanes(ids)
    taken = F.one_hot(lane, _LANES)
    before = (taken.cumsum(0) * taken).sum(1) - 1
    return before * _LANES + lane


def lanes(ids: Tensor) -> Tensor:
    """0..15 for each identity: as many of each where identities follow one another, and also for every k-th of them.

    Each 16 identities begin a lane later. If the lane were the identity modulo 16, a class that is every fourth image
    would have four lanes, and what is left of it alone would take four times the rows; by a hash of the identity, lanes
    would be uneven from the start.
    """
    return (ids + ids // _LANES) % _LANES


@torch.no_grad()
def margins(model: nn.Module, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
    """max_{k != y} z_k - z_y of every image, shape (n,)."""
    return in_equal_batches(lambda x, y, _: attacks.margin(model(x), y), x, y, draws)


@torch.no_grad()
def misclassified(model: nn.Module, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
    """Which images have another prediction than their label, shape (n,): of tied classes the first, as the harness."""
    return in_equal_batches(lambda x, y, _: model(x).argmax(1) != y, x, y, draws)


def rival(logits: Tensor, y: Tensor, rank: int) -> Tensor:
    """The class other than the label that has the `rank`-th largest logit (0: the largest), shape (n,)."""
    true = F.one_hot(y, logits.shape[1]).bool()
    others = logits.masked_fill(true, -torch.inf)
    return others.sort(dim=1, descending=True, stable=True).indices[:, rank]


def rounds(case: Case, attacks_in_turn: Iterable[Attack], draws: Draws) -> Tensor:
    """The attacked images, each attack being made on the images that no earlier one broke.

    An image that is misclassified as it is stays as it is. One that holds is given as the attack left it that came
    nearest to breaking it.
    """
    found, reached = case.x.clone(), margins(case.model, case.x, case.y, draws)
    if case.needs_threat().eps == 0:
        return found
    holds = reached <= 0
    reached[holds] = -torch.inf  # so that the first attack's image is taken even if it is a bad one
    for number, attack in enumerate(attacks_in_turn):
        left = holds.nonzero().squeeze(1)
        if not len(left):
            break
        turn = draws[left].fork("restart", number)
        moved = attack(case.x[left], case.y[left], turn)
        margin = margins(case.model, moved, case.y[left], turn)
        better = margin > reached[left]
        found[left[better]], reached[left[better]] = moved[better], margin[better]
        holds[left] = reached[left] <= 0
    return found


def pick(which: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Images of `one` where `which` (n,), of `other` elsewhere."""
    return one.where(column(which, one), other)


def batched(attack: Attack) -> Attack:
    """The attack, made in equal batches."""
    return lambda x, y, draws: in_equal_batches(attack, x, y, draws)
