"""Images the project draws itself, so that their manifold, relevant pixels and non-robust feature are known exactly.

No photograph can tell these three:

- the image manifold: a smooth generator of 17 latents, whose tangent space is its derivative;
- the pixels that carry the class: a bar, whose orientation is the class, among two blobs and a tilted background
  that mean nothing;
- a feature that predicts the class perfectly and is not robust: fine stripes of amplitude 0.03, which the radius
  Linf 0.05 of the default threat can turn into those of another class. A model may use them, and loses under
  attack what it built on them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from benchmark.datasets._generator import CLASSES, LATENTS, Planted, bar, patterns, smooth
from benchmark.datasets.base import Dataset, Split
from metrics.randomness import Draws

_SIZES = (4000, 500, 1000)
_AMPLITUDE = 0.03
_SPREAD = 0.3
"""How far the bar may lean from its class's orientation, in steps of 45 degrees: at 0.5 the classes would touch."""
_MASK = 0.2


def planted(root: Path) -> Dataset:
    """Four orientations, 16x16 grey pixels; drawn in memory, nothing is read from `root`."""
    ids = torch.arange(sum(_SIZES))
    everything = Split(manifold(Split(ids, ids, ids)).decode(_latents()), ids % CLASSES, ids)
    train, validation, test = (everything[part] for part in ids.split(_SIZES))
    classes = ("horizontal", "falling", "vertical", "rising")
    return Dataset("planted", classes, train, validation, test, manifold=manifold, masks=masks)


def manifold(split: Split) -> Planted:
    """The true manifold at the images of a split."""
    ids = split.ids.cpu()
    offsets = _AMPLITUDE * patterns()[ids % CLASSES]
    return Planted(_latents()[ids].to(split.x.device), offsets.to(split.x.device))


def masks(split: Split) -> Tensor:
    """The pixels where the bar has at least a fifth of its contrast, bool (n, H, W)."""
    return bar(_latents()[split.ids.cpu()]).ge(_MASK).to(split.x.device)


def without_shortcut(split: Split) -> Tensor:
    """The same images without their stripes, (n, 1, H, W)."""
    return smooth(_latents()[split.ids.cpu()]).unsqueeze(1).to(split.x.device)


@cache
def _latents() -> Tensor:
    """The latents of every image, (5500, 17): uniform, the orientation around that of its class."""
    ids = torch.arange(sum(_SIZES))
    z = 2 * Draws(0, ids).fork("planted").uniform(LATENTS) - 1
    z[:, 0] = z[:, 0] * _SPREAD + ids % CLASSES
    return z
