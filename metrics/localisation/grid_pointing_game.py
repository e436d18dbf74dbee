"""Grid pointing game: in a mosaic of images, does the map point at the one that is asked for?"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from metrics.attribution import AttributionName, Explained, Of, explain
from metrics.case import Case, NotApplicable, Scores, in_batches, predict
from metrics.importance import Reduction, pixel_map
from metrics.randomness import Draws

_SEEN = 0.75
"""Of the mosaics, the part in which a network must recognise the image; one that sees nothing does in half of them."""


def grid_pointing_game(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum",
    tiles: Literal["halved", "full"] = "halved",
) -> Scores:
    """How much of the positive evidence for an image's class lies on that image, in a mosaic with three others.

    Needs no masks. Every correctly classified image is put into a random quarter of a 2x2 mosaic; the other quarters
    are training images of other classes, drawn for each image by its key. So that any network can see the mosaic, the
    images are halved (means over 2x2 pixels) and the mosaic has the size of one image; with `full` tiles, as in the
    paper, it has twice the size, which only networks that pool over the whole image take.

    A map cannot point at what the network does not see. A mosaic counts where the network recognises the image in it:
    where the log-odds of the image's class are higher than with another image, of another class, in its quarter. Does
    not apply to a network that recognises fewer than three images in four; chance alone makes it two. That the class
    wins is not asked: in a mosaic of four classes each is right.

    Label: Grid pointing game {attribution}
    Formula: sum_{i in quarter} a_i / sum_i a_i, a = max(0, importance of pixel i), for the image's class
    Measures:
        share (higher, 0..1): 1 for evidence on the image alone; NaN where the image is not recognised.
        probability (none, 0..1): The image's class's on the mosaic.
        recognised (none, 0..1): Whether the network recognises the image in the mosaic.
    Map: by `reduction`, one number per pixel: unless told otherwise the channels' sum, of which what speaks against the
        class is cut off. No `target`: the map is asked for the image's own class among four.
    Chance: 0.25 for a constant or zero map and in the mean for random maps.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        tiles: Whether the images in the mosaic are halved, or of full size.
    Cost: one map and two predictions per image
    Pitfalls: networks with a linear layer over all places seldom recognise a halved image (on `planted` and `digits`
        the suite's own do not). Says whether the map points at the image, not at what in it carries the class: a
        shortcut on the image is as good. The paper takes the images that the model is surest of, of four different
        classes; here each is scored once, and its partners may be of one class. Does not apply where images of odd size
        are to be halved. NaN for misclassified images.
    Paper: Böhle, Fritz & Schiele 2021, "Convolutional dynamic alignment networks for interpretable classifications"
    """
    pool = 2 if tiles == "halved" else 1
    _check_size(case, pool)
    draws = case.draws.fork("mosaic")
    quarter = (4 * draws.fork("quarter").uniform(1).squeeze(1)).long()
    others = _partners(case, draws)
    probability, recognised = _seen(case, others, quarter, pool)
    if recognised.nanmean() < _SEEN:
        raise NotApplicable(
            f"the network recognises the image in {recognised.nanmean():.0%} of the mosaics, where chance alone "
            f"makes it half; needs {_SEEN:.0%}"
        )

    def shares(x: Tensor, y: Tensor, others: Tensor, place: Tensor, numbers: Draws) -> Tensor:
        mosaic = _mosaic(x, case.train_x[others[:, :3]], place, pool)
        maps = explain(case.model, mosaic, numbers, attribution=attribution, of=of, target=y)
        return _share(pixel_map(maps.double(), reduction), place)

    share = in_batches(shares, case.x, case.y, others, quarter, draws)
    return {
        "share": share.where(recognised == 1, torch.nan),
        "probability": probability,
        "recognised": recognised,
    }


def _seen(case: Case, others: Tensor, quarter: Tensor, pool: int) -> tuple[Tensor, Tensor]:
    """The class's probability on the mosaic, and whether its log-odds need the image; NaN for misclassified ones."""

    def seen(x: Tensor, y: Tensor, others: Tensor, place: Tensor) -> Tensor:
        explained, tiles = Explained(case.model, y), case.train_x[others]
        mosaic, without = (_mosaic(tile, tiles[:, :3], place, pool) for tile in (x, tiles[:, 3]))
        logits = case.model(mosaic)
        probability = logits.softmax(1).gather(1, y[:, None]).squeeze(1)
        recognised = explained.scalar(logits) > explained(without)
        return torch.stack([probability, recognised.to(probability)], 1)

    with torch.no_grad():
        found = in_batches(seen, case.x, case.y, others, quarter)
    correct = (predict(case.model, case.x) == case.y)[:, None]
    probability, recognised = found.where(correct, torch.nan).unbind(1)
    return probability, recognised


def _check_size(case: Case, pool: int) -> None:
    """NotApplicable where images cannot be halved, or the network takes no image of twice the size."""
    channels, height, width = case.x.shape[1:]
    if pool == 2:
        if height % 2 or width % 2:
            raise NotApplicable(f"tiles = 'halved' needs an even size, got {height}x{width}")
        return
    try:
        with torch.no_grad():
            logits = case.model(case.x.new_zeros(1, channels, 2 * height, 2 * width))
    except RuntimeError:  # what torch raises where shapes do not fit
        logits = case.x.new_zeros(0)
    if logits.shape != (1, case.classes):
        raise NotApplicable(
            f"tiles = 'full' needs a network that takes images of {2 * height}x{2 * width}"
        )


def _partners(case: Case, draws: Draws) -> Tensor:
    """Indices (n, 4) of training images of other classes than the image's; the same for every model.

    Three that stand beside it, and one that stands in its place where it is left out.
    """
    if case.train_y is None:
        raise NotApplicable("needs the labels of the training images")
    u = draws.fork("partners").uniform(4)
    partners = torch.empty_like(u, dtype=torch.long)
    for label in case.y.unique():
        others = (case.train_y != label).nonzero().squeeze(1)
        if not len(others):
            raise NotApplicable(f"all training images are of class {int(label)}")
        of = case.y == label
        partners[of] = others[(u[of] * len(others)).long()]
    return partners


def _mosaic(x: Tensor, others: Tensor, quarter: Tensor, pool: int) -> Tensor:
    """Images (n, C, H, W), each in its quarter (n,) beside three others (n, 3, C, H, W): (n, C, 2H/pool, 2W/pool)."""
    tiles = F.avg_pool2d(torch.cat([x[:, None], others], 1).flatten(0, 1), pool)
    tiles = tiles.view(len(x), 4, *tiles.shape[1:])
    # quarter q shows tile (q - quarter) mod 4, and tile 0 is the image itself
    turned = (torch.arange(4, device=x.device) - quarter[:, None]) % 4
    tiles = tiles[torch.arange(len(x), device=x.device)[:, None], turned]
    return tiles.unflatten(1, (2, 2)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def _share(pixels: Tensor, quarter: Tensor) -> Tensor:
    """Share of the positive evidence that lies in the quarter, (n, H, W), (n,) -> (n,)."""
    evidence = pixels.clamp_min(0)
    height, width = evidence.shape[1:]
    quarters = evidence.view(-1, 2, height // 2, 2, width // 2).sum((2, 4)).flatten(1)
    total = quarters.sum(1)
    inside = quarters.gather(1, quarter[:, None]).squeeze(1)
    # no positive evidence prefers no quarter
    return (inside / total).where(total != 0, 0.25).float()
