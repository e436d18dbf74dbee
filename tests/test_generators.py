"""The generators that stand in for the image manifold: their losses, their networks, and what is near them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.datasets.load import load
from benchmark.measuring import services
from benchmark.measuring.place import Place, dataset
from benchmark.plan import DataSpec
from metrics.manifold import _generators, _vae_gan, _vae_gan_networks
from metrics.manifold._generators import GENERATORS, LATENTS, Generator, VaeManifold
from metrics.manifold._tangent import tangents
from metrics.manifold._vae import VAE, batches, build_vae, fit_vae
from metrics.manifold._vae_gan import VaeGan, build_critic, build_vae_gan, fit_vae_gan
from metrics.randomness import Draws

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 15, 15), (3, 7, 10), (1, 9, 6), (1, 16, 16)]


def blobs(n: int, channels: int, height: int, width: int) -> Tensor:
    """Images of two degrees of freedom."""
    at = Draws(0, torch.arange(n)).uniform(2)
    i = torch.linspace(0, 1, height)[None, :, None] - at[:, 0, None, None]
    j = torch.linspace(0, 1, width)[None, None, :] - at[:, 1, None, None]
    return torch.exp(-8 * (i**2 + j**2))[:, None].repeat(1, channels, 1, 1)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


@pytest.mark.parametrize("build", [build_vae, build_vae_gan])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_generator_fits_any_shape(
    shape: tuple[int, int, int], build: Callable[[Tensor], VAE | VaeGan]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = build(torch.zeros(shape)).eval().requires_grad_(False)
    k = 10 if shape[0] == 1 else 128
    mean, log_variance = vae.encode(torch.rand(2, *shape, generator=torch.Generator()))
    assert mean.shape == log_variance.shape == (2, k)
    images = vae.decode(mean)
    assert images.shape == (2, *shape)
    assert ((images > 0) & (images < 1)).all()
    m = VaeManifold.at(vae, torch.zeros(2, *shape))
    assert m.project(torch.zeros(2, *shape)).shape == (2, *shape)
    moved = m.decode(m.latents + 1) - m.decode(m.latents)
    assert (moved.abs().amax(0) > 0).all()  # every pixel belongs to the picture


def test_the_tangents_of_a_generator_are_its_jacobian() -> None:
    for build in (build_vae, build_vae_gan):
        vae = seeded(lambda build=build: build(torch.zeros(1, 8, 8))).eval().requires_grad_(False)
        m = VaeManifold.at(vae, Draws(0, torch.arange(2)).uniform(1, 8, 8))  # type: ignore[arg-type]
        got = tangents(m)
        for n in range(2):
            jacobian = torch.autograd.functional.jacobian(m.decode, m.latents[n : n + 1])
            torch.testing.assert_close(got[n], jacobian.reshape(64, 10).T, rtol=1e-4, atol=1e-6)


# ---- the plain VAE ----


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 15, 15)])
def test_fitting_reduces_the_reconstruction_error(shape: tuple[int, int, int]) -> None:
    x = blobs(200, *shape)

    def error(vae: VAE) -> float:
        return (VaeManifold.at(vae, x).project(x) - x).abs().mean().item()

    untrained, flat = fit_vae(x, 0, epochs=1), (x - x.mean(0)).abs().mean().item()
    fitted = fit_vae(x, 0, epochs=128)
    assert error(fitted) < 0.5 * flat < error(untrained)
    assert not fitted.training
    assert not any(parameter.requires_grad for parameter in fitted.parameters())


def test_images_that_a_generator_was_not_fitted_to_are_near_its_manifold() -> None:
    """Squared distance over that to the mean image: 0.45 to 0.47 by seed; at a tenth of the learning rate 0.85."""
    data = load("digits", None)
    x, unseen = data.train.x[:1000], data.test.x[:200]
    found = VaeManifold.at(fit_vae(x, 0, epochs=40), unseen).project(unseen)
    distance, variance = ((unseen - near).square().mean() for near in (found, x.mean(0)))
    assert distance < 0.6 * variance


@pytest.mark.parametrize("fit", [fit_vae, fit_vae_gan])
@pytest.mark.parametrize("channels", [1, 3])
def test_fitting_is_repeatable_and_leaves_the_generator_alone(
    fit: Callable[..., nn.Module], channels: int
) -> None:
    x = blobs(30, channels, 3, 3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = fit(x, 3, epochs=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    two, other = fit(x, 3, epochs=5), fit(x, 4, epochs=5)
    assert not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())
    for a, b, c in zip(one.parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_the_vae_loss_literally() -> None:
    """L1 on [-1, 1] plus KL to N(0, I), by the textbook's integrals, image by image."""
    from metrics.manifold._vae import _loss

    x, draws = blobs(6, 1, 8, 8), Draws(0, torch.arange(6))
    vae = seeded(lambda: VAE(1, 8, 8, latents=4, hidden=8))
    noise, losses = draws.fork("latent").normal(4), []
    for n in range(6):
        mean, log_variance = vae.encode(x[n : n + 1])
        q = torch.distributions.Normal(mean, (log_variance / 2).exp())
        divergence = torch.distributions.kl_divergence(q, torch.distributions.Normal(0, 1)).sum()
        image = vae.decode(mean + q.scale * noise[n])
        losses.append(((2 * image - 1) - (2 * x[n] - 1)).abs().sum() + divergence)
    torch.testing.assert_close(_loss(vae, x, draws), torch.stack(losses).mean())


# ---- Kim's VAE-GAN ----


def layers(net: nn.Module) -> list[str]:
    """Convolutions as kernel/stride:channels, transposed ones with a T, linear layers as their width."""
    found = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            t = "T" if isinstance(layer, nn.ConvTranspose2d) else ""
            found.append(f"{t}{layer.kernel_size[0]}/{layer.stride[0]}:{layer.out_channels}")
        elif isinstance(layer, nn.Linear):
            found.append(f"{layer.in_features}>{layer.out_features}")
    return found


def normalised(net: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in net.modules())


def test_the_networks_of_mnist_are_the_papers() -> None:
    image = torch.zeros(1, 28, 28)
    vae, critic = build_vae_gan(image), build_critic(image)
    assert layers(vae.encoder) == ["4/2:64", "4/2:128", "4/2:256", "4096>20"]
    assert layers(vae.decoder) == ["10>1024", "T4/2:256", "T4/1:128", "T4/2:32", "T4/2:1"]
    assert layers(critic) == ["4/2:32", "4/2:128", "4/2:256", "4/2:256", "1024>512", "512>1"]
    assert [normalised(net) for net in (vae.encoder, vae.decoder, critic)] == [4, 4, 4]


def test_the_networks_of_cifar_are_the_papers() -> None:
    image = torch.zeros(3, 32, 32)
    vae, critic = build_vae_gan(image), build_critic(image)
    assert layers(vae.encoder) == ["5/2:64", "5/2:128", "5/2:256", "4096>256"]
    assert layers(vae.decoder) == ["128>8192", "T4/2:256", "T4/2:128", "T4/2:64", "3/1:3"]
    assert layers(critic) == [
        "3/1:64", "4/2:64", "3/1:128", "4/2:128", "3/1:256", "4/2:256", "3/1:512", "8192>1",
    ]  # fmt: skip
    assert [normalised(net) for net in (vae.encoder, vae.decoder, critic)] == [4, 3, 0]


def test_the_critic_of_colour_has_kernels_of_norm_one() -> None:
    critic = seeded(lambda: build_critic(torch.zeros(3, 16, 16)))
    for _ in range(30):  # a power iteration each
        critic(torch.zeros(2, 3, 16, 16))
    critic.eval()
    kernels = [
        layer.weight.flatten(1) for layer in critic.modules() if isinstance(layer, nn.Conv2d)
    ]
    assert len(kernels) == 5
    for kernel in kernels:
        assert torch.linalg.matrix_norm(kernel, 2).item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("size", "kernel"), [((28, 28), 4), ((7, 7), 4), ((7, 10), 4), ((32, 9), 5)]
)
def test_convolutions_are_padded_as_tensorflows_same(size: tuple[int, int], kernel: int) -> None:
    """out = ceil(in / 2); what is missing is added evenly, an odd one at the end."""
    pad, convolution = _vae_gan_networks._down(2, 3, kernel, size)
    x = Draws(0, torch.arange(2)).normal(2, *size)
    half = tuple(math.ceil(side / 2) for side in size)
    rows, columns = (max((h - 1) * 2 + kernel - s, 0) for h, s in zip(half, size, strict=True))
    padded = F.pad(x, (columns // 2, -(-columns // 2), rows // 2, -(-rows // 2)))
    got = convolution(pad(x))
    assert got.shape[2:] == half
    torch.testing.assert_close(
        got, F.conv2d(padded, convolution.weight, convolution.bias, stride=2)
    )


def game() -> tuple[VaeGan, nn.Sequential, Tensor, Draws]:
    """Networks in eval mode (each image by itself) and float64."""
    x, draws = blobs(5, 1, 8, 8).double(), Draws(0, torch.arange(5))
    image = torch.zeros(1, 8, 8)
    return (
        seeded(lambda: build_vae_gan(image)).double().eval(),  # type: ignore[return-value]
        seeded(lambda: build_critic(image)).double().eval(), x, draws,
    )  # fmt: skip


def test_the_losses_of_the_three_players_literally() -> None:
    vae, critic, x, draws = game()
    noise, prior = (draws.fork(name).normal(10).double() for name in ("latent", "prior"))
    losses: dict[str, list[Tensor]] = {"encoder": [], "decoder": [], "critic": []}
    for n in range(5):
        image = 2 * x[n : n + 1] - 1
        code = vae.encoder(image)[0]
        mean, log_variance = code[:10], code[10:]
        again = vae.decoder((mean + (log_variance.exp() ** 0.5) * noise[n])[None])
        invented = vae.decoder(prior[n][None])
        error = sum((a - b).abs() for a, b in zip(again.flatten(), image.flatten(), strict=True))
        kl = sum(-0.5 * (1 + s - m**2 - math.e**s) for m, s in zip(mean, log_variance, strict=True))
        real, first, second = (critic(each)[0, 0] for each in (image, again, invented))
        losses["encoder"].append(error + kl)
        losses["decoder"].append(0.005 * error - (first + 1e-8).log() - (second + 1e-8).log())
        losses["critic"].append(
            -((real + 1e-8).log() + (1 - first + 1e-8).log() + (1 - second + 1e-8).log())
        )
    got = {
        "encoder": _vae_gan.encoder_loss(vae, x, draws),
        "decoder": _vae_gan.decoder_loss(vae, critic, x, 0.005, draws),
        "critic": _vae_gan.critic_loss(vae, critic, x, draws),
    }
    for name, each in losses.items():
        torch.testing.assert_close(got[name], torch.stack(each).mean())


def test_encoder_decoder_and_critic_move_in_this_order() -> None:
    """Two steps, each gradient taken after the moves before it; Adam with the paper's constants, by its formula."""
    x, image = blobs(10, 1, 8, 8), torch.zeros(1, 8, 8)
    fitted = fit_vae_gan(x, 3, epochs=2, batch=10)

    with torch.random.fork_rng():
        torch.manual_seed(3)
        vae, critic = build_vae_gan(image), build_critic(image)
    players = [list(net.parameters()) for net in (vae.encoder, vae.decoder, critic)]
    first, second = ([[torch.zeros_like(p) for p in own] for own in players] for _ in range(2))
    for step, (images, draws) in enumerate(batches(x, 3, "vae_gan", 2, 10), start=1):
        losses = [
            lambda i=images, d=draws: _vae_gan.encoder_loss(vae, i, d.fork("encoder")),
            lambda i=images, d=draws: _vae_gan.decoder_loss(vae, critic, i, 5e-3, d.fork("decoder")),
            lambda i=images, d=draws: _vae_gan.critic_loss(vae, critic, i, d.fork("critic", 0)),
        ]  # fmt: skip
        for own, loss, m, v in zip(players, losses, first, second, strict=True):
            for i, g in enumerate(torch.autograd.grad(loss(), own)):
                m[i], v[i] = 0.5 * m[i] + 0.5 * g, 0.9 * v[i] + 0.1 * g**2
                scale = (v[i] / (1 - 0.9**step)).sqrt() + 1e-8
                with torch.no_grad():
                    own[i] -= 5e-4 * m[i] / (1 - 0.5**step) / scale
    # kernels and matrices: what BatchNorm takes out again has a gradient of rounding alone, which Adam makes large
    apart = [
        (a - b).abs().median().item()
        for a, b in zip(fitted.parameters(), vae.parameters(), strict=True)
        if a.dim() > 1
    ]
    assert max(apart) < 1e-7  # after steps of 5e-4


def test_a_player_leaves_the_others_gradients_alone() -> None:
    vae, critic, x, draws = game()
    player = _vae_gan._Player(vae.decoder, _vae_gan_networks.GREY)
    before = [p.clone() for p in critic.parameters()]
    player.descend(_vae_gan.decoder_loss(vae, critic, x, 0.005, draws))
    assert all(p.grad is None for net in (vae.encoder, critic) for p in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))


def test_the_critic_of_colour_moves_five_times_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    whole = _vae_gan.critic_loss

    def counted(*arguments: object) -> Tensor:
        calls.append(1)
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_vae_gan, "critic_loss", counted)
    fit_vae_gan(blobs(4, 3, 5, 5), 0, epochs=2, batch=4)
    assert len(calls) == 2 * 5


def test_the_vae_gan_learns_to_reconstruct() -> None:
    x = blobs(100, 1, 5, 5)
    fitted = fit_vae_gan(x, 0, epochs=100, batch=50)
    error = (VaeManifold.at(fitted, x).project(x) - x).abs().mean().item()
    assert error < 0.75 * (x - x.mean(0)).abs().mean().item()


@pytest.mark.parametrize(
    ("fit", "n", "shape", "shown"),
    [
        (fit_vae, 300, (1, 8, 8), 30_000),
        (fit_vae, 60_000, (1, 1, 1), 600_000),
        (fit_vae_gan, 100, (1, 1, 1), 30 * 100),
        (fit_vae_gan, 100, (3, 1, 1), 150 * 100),
        (fit_vae_gan, 20_000, (1, 1, 1), 5 * 20_000),
        (fit_vae_gan, 60_000, (1, 1, 1), 2 * 60_000),
    ],
)
def test_the_number_of_images_shown_goes_by_the_size_of_the_data(
    monkeypatch: pytest.MonkeyPatch,
    fit: Callable[..., nn.Module],
    n: int,
    shape: tuple[int, int, int],
    shown: int,
) -> None:
    asked = []

    def none(x: Tensor, seed: int, name: str, steps: int, size: int) -> list[Tensor]:
        asked.append((steps, size))
        return []

    monkeypatch.setattr("metrics.manifold._vae.batches", none)
    monkeypatch.setattr("metrics.manifold._vae_gan.batches", none)
    fit(torch.zeros(n, *shape), 0)
    ((steps, size),) = asked
    assert shown <= steps * size < shown + size


# ---- projections ----


class Flat:
    """A linear decoder, and an encoder that sees little."""

    def __init__(self, a: Tensor) -> None:
        self.a = a

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1)[:, :3], torch.full((len(x), 3), math.log(0.25))

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.a).view(len(z), 1, 4, 5)


def flat() -> tuple[Flat, Tensor, Draws]:
    vae = Flat(Draws(0, torch.arange(3)).normal(20))
    return vae, Draws(1, torch.arange(7)).uniform(1, 4, 5), Draws(2, torch.arange(7))


def test_the_mean_and_a_sample_of_the_encoder_literally() -> None:
    vae, x, draws = flat()
    for n in range(7):
        mean, spread = x[n].flatten()[:3], 0.5
        noise = draws[n : n + 1].fork("latent").normal(3)[0]
        for latent, z in (("mean", mean), ("sample", mean + spread * noise)):
            expected = (z @ vae.a).view(1, 4, 5)
            got = VaeManifold.at(vae, x, draws, latent).project(x)[n]
            torch.testing.assert_close(got, expected)


def test_samples_are_normal_about_the_mean() -> None:
    vae, _, _ = flat()
    draws, x = Draws(3, torch.arange(4000)), torch.zeros(4000, 1, 4, 5)
    z = LATENTS["sample"](vae, x, draws)
    assert z.mean(0).abs().max() < 4 * 0.5 / math.sqrt(4000)
    torch.testing.assert_close(z.std(0), torch.full((3,), 0.5), rtol=0.05, atol=0)


def test_the_nearest_image_of_a_linear_decoder_is_the_orthogonal_projection() -> None:
    vae, x, draws = flat()
    got = VaeManifold.at(vae, x, draws, "opt").project(x).flatten(1)
    q, _ = torch.linalg.qr(vae.a.double().T)
    expected = x.flatten(1).double() @ q @ q.T
    torch.testing.assert_close(got.double(), expected, rtol=0.02, atol=0.02)


def test_the_nearest_image_is_never_further_than_the_mean_and_its_own_affair() -> None:
    vae = fit_vae(blobs(100, 1, 8, 8), 0, epochs=20)
    x, draws = Draws(1, torch.arange(6)).uniform(1, 8, 8), Draws(2, torch.arange(6))

    def distance(latent: str, rows: slice) -> Tensor:
        m = VaeManifold.at(vae, x[rows], draws[rows], latent)
        return (m.project(x[rows]) - x[rows]).flatten(1).norm(dim=1)

    everything = slice(None)
    mean, nearest = distance("mean", everything), distance("opt", everything)
    assert (nearest < mean).all()
    torch.testing.assert_close(distance("opt", slice(0, 2)), nearest[:2], rtol=1e-4, atol=1e-5)


def test_the_manifold_of_a_vae_is_encode_and_decode() -> None:
    x = blobs(5, 1, 8, 8)
    vae = fit_vae(x, 0, epochs=3)
    m = VaeManifold.at(vae, x)
    torch.testing.assert_close(m.latents, vae.encode(x)[0])
    torch.testing.assert_close(m.decode(m.latents), m.project(x))
    torch.testing.assert_close(m.project(x), vae.decode(vae.encode(x)[0]))
    torch.testing.assert_close(m.project(x[:2]), m.project(x)[:2])


# ---- the harness's service ----


def test_a_generator_is_fitted_once_for_the_data_and_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = []

    def spied(name: str) -> Generator:
        build, fit = GENERATORS[name]

        def counted(x: Tensor, seed: int, *, epochs: int | None) -> VAE | VaeGan:
            fits.append((name, epochs))
            return fit(x, seed, epochs=epochs)

        return Generator(build, counted)

    monkeypatch.setattr(_generators, "GENERATORS", spied)
    monkeypatch.setattr(services, "GENERATORS", {name: spied(name) for name in GENERATORS})
    data = dataset(DataSpec("digits", 40, 6), None)
    place, state = Place(tmp_path, None, "cpu"), torch.get_rng_state()
    first = services.manifold(place, data, data.test, "vae", 1)
    for settings in (("vae", 1), ("vae", 2), ("vae_gan", 1), ("vae_gan", 1, "sample")):
        m = services.manifold(place, data, data.test, *settings)
        assert m.project(data.test.x).shape == data.test.x.shape
    assert fits == [("vae", 1), ("vae", 2), ("vae_gan", 1)]
    assert torch.equal(torch.get_rng_state(), state)
    again = services.manifold(place, data, data.test, "vae", 1)
    assert torch.equal(first.latents, again.latents)
    assert services.manifold(place, data, data.test, "vae", 1) is again
    drawn = services.manifold(place, data, data.test, "vae", 1, "sample")
    assert services.manifold(place, data, data.test, "vae", 1) is again, "beside another latent"
    assert services.manifold(place, data, data.test[:3], "vae", 1) is not again
    assert services.manifold(place, data, data.test, "vae", 1) is again, "asked for last, it stays"
    assert services.manifold(place, data, data.test, "vae", 1, "sample") is not drawn


def test_a_known_manifold_is_taken_whatever_generator_is_asked_for(tmp_path: Path) -> None:
    data = dataset(DataSpec("planted", 40, 6), None)
    place = Place(tmp_path, None, "cpu")
    m = services.manifold(place, data, data.test, "vae_gan", 1, "sample")
    assert m.latents.shape == (6, 17)
    assert not (tmp_path / "store").exists()
