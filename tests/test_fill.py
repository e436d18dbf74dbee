"""What removed pixels become: every fill against a version written out pixel by pixel, in double precision."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from metrics.fill import Fill, blurred, filled
from metrics.randomness import Draws

IDS = torch.arange(4)
SHAPE = (3, 6, 7)
X = Draws(0, IDS).uniform(*SHAPE)
DRAWS = Draws(1, IDS)
MEAN = torch.tensor([0.2, 0.5, 0.7])
REMOVED = Draws(2, IDS).uniform(*SHAPE[1:]) < 0.6
every = pytest.mark.parametrize("fill", get_args(Fill))


def interpolated(image: Tensor, removed: Tensor) -> Tensor:
    """Removed pixels at the weighted mean of their neighbours, by a dense system for each image."""
    height, width = removed.shape
    system, right = torch.eye(height * width).double(), image.flatten(1).T.double().clone()
    for i, j in itertools.product(range(height), range(width)):
        row = i * width + j
        if not removed[i, j]:
            continue
        system[row, row], right[row] = 0, 0
        for a, b in itertools.product((-1, 0, 1), repeat=2):
            if (a, b) != (0, 0) and 0 <= i + a < height and 0 <= j + b < width:
                weight = 1 / 6 if 0 in (a, b) else 1 / 12
                system[row, row] += weight
                system[row, row + a * width + b] -= weight
    return torch.linalg.solve(system, right).T.view_as(image)


def blurred_literally(image: Tensor, sigma: float) -> Tensor:
    out = torch.zeros_like(image)
    _, height, width = image.shape
    for i, j in itertools.product(range(height), range(width)):
        total = 0.0
        for a, b in itertools.product(range(height), range(width)):
            weight = math.exp(-((a - i) ** 2 + (b - j) ** 2) / (2 * sigma**2))
            total += weight
            out[:, i, j] += weight * image[:, a, b]
        out[:, i, j] /= total
    return out


def literally(fill: str, n: int) -> Tensor:
    """The whole of image n as its removed pixels become."""
    image, own = X[n].double(), DRAWS[n : n + 1].fork("fill")
    return {
        "zero": lambda: torch.zeros_like(image),
        "mean": lambda: MEAN.double()[:, None, None].expand_as(image),
        "noise": lambda: (
            image.min() + (image.max() - image.min()) * own.uniform(*SHAPE)[0].double()
        ),
        "blur": lambda: blurred_literally(image, 3.0),
        "noisy_linear": lambda: (
            interpolated(image, REMOVED[n]) + 0.01 * own.normal(*SHAPE)[0]
        ).clip(0, 1),
    }[fill]()


@every
def test_each_fill_literally(fill: Fill) -> None:
    got = filled(X, REMOVED, fill, mean=MEAN, draws=DRAWS)
    for n, image in enumerate(got):
        removed = REMOVED[n].expand(SHAPE)
        torch.testing.assert_close(
            image[removed].double(), literally(fill, n)[removed], rtol=0, atol=2e-5
        )
        assert torch.equal(image[~removed], X[n][~removed]), "kept pixels stay bit for bit"


@every
@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_and_everything_removed(fill: Fill, channels: int) -> None:
    x, mean = X[:, :channels], MEAN[:channels]
    none = torch.zeros_like(REMOVED)
    assert torch.equal(filled(x, none, fill, mean=mean, draws=DRAWS), x)
    got = filled(x, ~none, fill, mean=mean, draws=DRAWS)
    assert got.shape == x.shape
    assert got.isfinite().all()
    assert ((got >= 0) & (got <= 1)).all()
    if fill == "noisy_linear":
        off = got - mean.view(1, -1, 1, 1)
        assert 0.005 < off.std() < 0.015
        assert off.abs().max() < 0.05


@every
def test_an_image_is_filled_by_itself(fill: Fill) -> None:
    """Alone, in another order, or beside an image that needs far more steps to be solved."""
    removed = REMOVED.clone()
    removed[3] = True
    removed[3, 0, 0] = False
    whole = filled(X, removed, fill, mean=MEAN, draws=DRAWS)
    for some in (slice(1, 2), torch.tensor([2, 0])):
        part = filled(X[some], removed[some], fill, mean=MEAN, draws=DRAWS[some])
        torch.testing.assert_close(part, whole[some], rtol=0, atol=1e-7)


@every
def test_images_and_generator_are_left_alone(fill: Fill) -> None:
    x, state = X.clone(), torch.get_rng_state()
    first = filled(x, REMOVED, fill, mean=MEAN, draws=DRAWS)
    assert torch.equal(first, filled(x, REMOVED, fill, mean=MEAN, draws=DRAWS))
    assert torch.equal(x, X)
    assert torch.equal(torch.get_rng_state(), state)
    assert filled(x.double(), REMOVED, fill, mean=MEAN.double(), draws=DRAWS).dtype == torch.double


@every
def test_a_share_mixes_image_and_fill(fill: Fill) -> None:
    whole = filled(X, torch.ones_like(REMOVED), fill, mean=MEAN, draws=DRAWS)
    quarter = filled(X, torch.full(REMOVED.shape, 0.25), fill, mean=MEAN, draws=DRAWS)
    torch.testing.assert_close(quarter, 0.75 * X + 0.25 * whole)


@pytest.mark.parametrize("size", [8, 28])
def test_noisy_linear_continues_a_plane(size: int) -> None:
    """A plane is the mean of its neighbours everywhere, so nothing but the noise remains."""
    along = torch.linspace(0.1, 0.8, size)
    plane = (0.7 * along[:, None] + 0.3 * along).expand(2, 3, size, size)
    removed = torch.zeros(2, size, size, dtype=torch.bool)
    removed[:, 1:-1, 1:-1] = True
    draws = Draws(5, torch.arange(2))
    got = filled(plane, removed, "noisy_linear", mean=MEAN, draws=draws)
    noise = 0.01 * draws.fork("fill").normal(3, size, size) * removed[:, None]
    torch.testing.assert_close(got, plane + noise, rtol=0, atol=5e-5)


def test_noisy_linear_takes_the_only_pixel_that_is_left() -> None:
    removed = torch.ones(4, 28, 28, dtype=torch.bool)
    removed[:, 3, 5] = False
    x = Draws(0, IDS).uniform(3, 28, 28)
    got = filled(x, removed, "noisy_linear", mean=MEAN, draws=DRAWS)
    noise = 0.01 * DRAWS.fork("fill").normal(3, 28, 28)
    expected = (x[:, :, 3:4, 5:6] + noise).clamp(0, 1)
    torch.testing.assert_close(got[removed[:, None].expand_as(got)],
                               expected[removed[:, None].expand_as(got)], rtol=0, atol=1e-3)  # fmt: skip


@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_blur_literally_and_of_a_constant(sigma: float) -> None:
    got = blurred(X.double(), sigma)
    expected = torch.stack([blurred_literally(image.double(), sigma) for image in X])
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(blurred(torch.ones(1, 2, 5, 9), sigma), torch.ones(1, 2, 5, 9))
