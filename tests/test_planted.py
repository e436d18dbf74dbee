"""The planted set keeps what it promises: exact tangents, exact masks, a shortcut that predicts and does not last."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.datasets import _generator as generator
from benchmark.datasets.base import Dataset, Split
from benchmark.datasets.defaults import defaults
from benchmark.datasets.load import load
from benchmark.datasets.planted import without_shortcut
from benchmark.models.base import build
from metrics.case import predict
from metrics.randomness import Draws


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("planted", Path())


@pytest.fixture(scope="module")
def tangent(data: Dataset) -> Tensor:
    """Orthonormal basis of the tangent space at 300 test images, (n, 256, 17)."""
    z = data.manifold(data.test[:300]).latents
    return torch.linalg.qr(generator.jacobian(z)).Q


def _fraction(vectors: Tensor, tangent: Tensor) -> Tensor:
    """The share of each vector's length that lies in the tangent space."""
    inside = torch.einsum("npk,np->nk", tangent, vectors)
    return inside.norm(dim=1) / vectors.norm(dim=1)


def test_images_are_what_the_generator_makes_of_their_latents(data):
    for split in (data.train, data.validation, data.test):
        manifold = data.manifold(split)
        assert manifold.latents.shape == (len(split), 17)
        assert (manifold.decode(manifold.latents) - split.x).abs().max() < 1e-6
        assert split.x.min() > 0.01
        assert split.x.max() < 0.99


def test_the_manifold_follows_any_selection_of_images(data):
    part = data.test[torch.tensor([7, 3, 500])]
    manifold = data.manifold(part)
    assert (manifold.decode(manifold.latents) - part.x).abs().max() < 1e-6
    assert torch.equal(manifold.decode(manifold.latents[:2]), manifold.decode(manifold.latents)[:2])
    with pytest.raises(ValueError, match="known at 3 images, got 6 rows"):
        manifold.decode(manifold.latents.repeat(2, 1))


def test_decode_is_differentiable_sample_by_sample(data):
    manifold = data.manifold(data.test[:5])
    z = manifold.latents.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(manifold.decode(z)[2].sum(), z)
    assert gradient[2].abs().sum() > 0
    assert gradient[[0, 1, 3, 4]].abs().sum() == 0


def test_tangents_equal_finite_differences(data):
    manifold = data.manifold(data.test[:40])
    z, offsets = manifold.latents.double(), manifold.offsets.double()
    exact = generator.Planted(z, offsets)
    jacobian = generator.jacobian(z).unflatten(1, (16, 16))
    for latent in range(generator.LATENTS):
        step = torch.zeros_like(z)
        step[:, latent] = 1e-5
        difference = (exact.decode(z + step) - exact.decode(z - step)).squeeze(1) / 2e-5
        torch.testing.assert_close(jacobian[..., latent], difference, atol=1e-8, rtol=1e-6)


def test_the_tangent_space_has_17_well_conditioned_dimensions(data):
    z = data.manifold(data.test).latents.double()
    singular = torch.linalg.svdvals(generator.jacobian(z))
    condition = singular[:, 0] / singular[:, -1]
    assert condition.median() < 120
    assert condition.max() < 1000
    assert singular[:, -1].min() > 1e-3


def test_a_tangent_vector_lies_in_the_tangent_space_and_noise_does_not(data, tangent):
    manifold = data.manifold(data.test[:300])
    draws = Draws(0, data.test.ids[:300])
    direction = draws.fork("direction").normal(17)
    jacobian = generator.jacobian(manifold.latents)
    vectors = (jacobian @ direction[..., None]).squeeze(-1)
    assert (_fraction(vectors, tangent) - 1).abs().max() < 1e-4
    noise = [_fraction(draws.fork("noise", turn).normal(256), tangent) for turn in range(5)]
    assert torch.cat(noise).square().mean().sqrt() == pytest.approx((17 / 256) ** 0.5, rel=0.02)


def test_projection_finds_the_nearest_point(data, tangent):
    """From noise around an image: nearer than the image itself, and the rest is orthogonal to the manifold."""
    part = data.test[:100]
    manifold = data.manifold(part)
    x = part.x + 0.02 * Draws(0, part.ids).normal(*part.x.shape[1:])
    projected = manifold.project(x)
    assert projected.shape == x.shape
    distance = (x - projected).flatten(1).norm(dim=1)
    assert (distance <= (x - part.x).flatten(1).norm(dim=1) + 1e-5).all()
    assert distance.mean() == pytest.approx(0.02 * (256 - 17) ** 0.5, rel=0.02)
    assert (manifold.project(part.x) - part.x).abs().max() < 1e-5


def test_projection_of_a_point_of_the_manifold_is_that_point(data):
    manifold = data.manifold(data.test[:100])
    moved = manifold.decode(manifold.latents + 0.1)
    assert (manifold.project(moved) - moved).abs().max() < 1e-3


def test_masks_cover_the_bar_alone(data):
    masks = data.masks(data.test)
    assert masks.shape == (1000, 16, 16)
    assert masks.dtype == torch.bool
    share = masks.float().mean((1, 2))
    assert share.min() > 0.05
    assert share.max() < 0.35
    # moving a blob changes nothing of the mask, and the masked pixels are the brighter ones
    x = data.test.x.squeeze(1)
    inside = (x * masks).sum((1, 2)) / masks.sum((1, 2))
    outside = (x * ~masks).sum((1, 2)) / (~masks).sum((1, 2))
    assert (inside > outside + 0.1).all()


def test_the_shortcut_is_small_distinct_and_readable(data):
    patterns = generator.patterns().flatten(1)
    assert torch.equal(patterns @ patterns.T, 256 * torch.eye(4))
    rest = data.test.x - without_shortcut(data.test)
    assert rest.abs().max() == pytest.approx(0.03, rel=1e-4)
    assert torch.equal((rest.flatten(1) @ patterns.T).argmax(1), data.test.y)


def _trained(x: Tensor, y: Tensor, epochs: int = 5) -> nn.Module:
    recipe = defaults("planted")
    shape = {"channels": 1, "classes": 4, "size": 16, "mean": recipe.mean, "std": recipe.std}
    model = build(recipe.recipe["architecture"], seed=0, **shape)
    batches = len(y) // 125
    optimiser = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, epochs * batches)
    for _ in range(epochs):
        for batch in Draws(0, torch.arange(len(y))).uniform(1).squeeze(1).argsort().chunk(batches):
            optimiser.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def _swapped(split: Split) -> Tensor:
    """The images with the stripes of the next class."""
    return without_shortcut(split) + 0.03 * generator.patterns()[(split.y + 1) % 4][:, None]


def test_a_standard_model_uses_the_shortcut(data):
    model = _trained(data.train.x, data.train.y)
    assert (predict(model, data.test.x) == data.test.y).float().mean() > 0.99
    assert (predict(model, _swapped(data.test)) == data.test.y).float().mean() < 0.5


def test_orientation_is_learnable_without_the_shortcut(data):
    model = _trained(without_shortcut(data.train), data.train.y)
    assert (predict(model, without_shortcut(data.test)) == data.test.y).float().mean() > 0.95
    assert (predict(model, _swapped(data.test)) == data.test.y).float().mean() > 0.9
