"""Attributions: linear models, literal sums, Captum called directly; and which pixels are the top ones."""

from __future__ import annotations

import captum.attr
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.attacks import input_gradient
from metrics.attribution import Explained, Of, explain
from metrics.importance import pixel_map, top
from metrics.randomness import Draws

METHODS = ["gradient", "gradient_x_input", "integrated_gradients", "smoothgrad", "random"]
OF: list[Of] = ["log_odds", "logit", "log_probability", "margin"]
N, CLASSES = 7, 5
IDS = torch.arange(N)


class Shifted(nn.Module):
    """The same function of the image added to every logit: no prediction changes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits + 3 * x.square().flatten(1).sum(1, keepdim=True)


@pytest.fixture
def draws() -> Draws:
    return Draws(11, IDS)


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def images(request: pytest.FixtureRequest) -> Tensor:
    return Draws(1, IDS).uniform(request.param, 4, 5)


def seeded(*layers: nn.Module) -> nn.Sequential:
    """Layers with weights keyed by position."""
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            normal = Draws(i, torch.arange(1)).normal(*parameter.shape)[0]
            parameter.copy_(normal / max(1, parameter[0].numel()) ** 0.5)
    return model.eval().requires_grad_(False)


@pytest.fixture
def net(images: Tensor) -> nn.Sequential:
    channels = images.shape[1]
    return seeded(
        nn.Conv2d(channels, 6, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(120, CLASSES)
    )


@pytest.fixture
def linear(images: Tensor) -> nn.Sequential:
    return seeded(nn.Flatten(), nn.Linear(images[0].numel(), CLASSES))


@pytest.fixture
def target() -> Tensor:
    return torch.tensor([0, 4, 2, 2, 1, 3, 0])


def scalar(of: Of, z: list[float], k: int) -> float:
    """The scalar of one image's logits, literally."""
    p = torch.tensor(z, dtype=torch.float64).softmax(0)
    others = [other for j, other in enumerate(z) if j != k]
    return {
        "log_odds": float((p[k] / (1 - p[k])).log()),
        "logit": z[k],
        "log_probability": float(p[k].log()),
        "margin": z[k] - max(others),
    }[of]


@pytest.mark.parametrize("of", OF)
def test_the_scalar_literally(of: Of, net: nn.Sequential, images: Tensor, target: Tensor) -> None:
    got = Explained(net, target, of)(images).tolist()
    expected = [
        scalar(of, z, k) for z, k in zip(net(images).tolist(), target.tolist(), strict=True)
    ]
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)


# ---- linear models ----


def test_gradient_of_a_linear_logit_is_its_row(
    linear: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    maps = explain(linear, images, draws, attribution="gradient", of="logit", target=target)
    torch.testing.assert_close(maps.flatten(1), linear[1].weight[target])


def test_gradient_x_input_of_a_linear_logit_measures_from_mid_grey(
    linear: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    maps = explain(linear, images, draws, attribution="gradient_x_input", of="logit", target=target)
    expected = linear[1].weight[target] * (images.flatten(1) - 0.5)
    torch.testing.assert_close(maps.flatten(1), expected)


def test_integrated_gradients_of_a_linear_logit_measure_from_black(
    linear: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    maps = explain(
        linear, images, draws, attribution="integrated_gradients", of="logit", target=target
    )
    expected = linear[1].weight[target] * images.flatten(1)
    torch.testing.assert_close(maps.flatten(1), expected, rtol=1e-4, atol=1e-6)


def test_smoothgrad_of_a_linear_logit_is_its_gradient(
    linear: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    plain, smooth = (
        explain(linear, images, draws, attribution=name, of="logit", target=target)
        for name in ("gradient", "smoothgrad")
    )
    torch.testing.assert_close(smooth, plain)


# ---- literal versions ----


@pytest.mark.parametrize("of", OF)
def test_gradient_is_the_derivative(
    of: Of, net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    """Against central differences in double precision."""
    exact = net.double()
    maps = explain(exact, images.double(), draws, of=of, target=target).flatten(1)
    h = 1e-5
    for n, k in enumerate(target.tolist()):
        for i in range(0, maps.shape[1], 3):
            bump = torch.zeros_like(images[n], dtype=torch.float64)
            bump.view(-1)[i] = h
            up, down = (
                scalar(of, exact((images[n] + sign * bump)[None])[0].tolist(), k)
                for sign in (1, -1)
            )
            assert maps[n, i].item() == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-6)


def test_integrated_gradients_literally(
    net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    maps = explain(net, images, draws, attribution="integrated_gradients", target=target)
    for n in range(N):
        own = Explained(net, target[n : n + 1])
        x = images[n : n + 1]
        steps = [input_gradient(own, (i + 0.5) / 50 * x) for i in range(50)]
        expected = x * torch.stack(steps).mean(0)
        torch.testing.assert_close(maps[n], expected[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("of", ["log_odds", "logit", "log_probability"])
def test_integrated_gradients_are_complete(
    of: Of, net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    maps = explain(net, images, draws, attribution="integrated_gradients", of=of, target=target)
    explained = Explained(net, target, of)
    difference = explained(images) - explained(torch.zeros_like(images))
    assert difference.abs().min() > 1e-3
    torch.testing.assert_close(maps.flatten(1).sum(1), difference, rtol=0.01, atol=1e-4)


def test_smoothgrad_literally(
    net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    maps = explain(net, images, draws, attribution="smoothgrad", target=target)
    own = draws.fork("attribution", "smoothgrad")
    total = torch.zeros_like(images)
    for i in range(20):
        noise = 0.15 * own.fork("copy", i).normal(*images.shape[1:])
        total += input_gradient(Explained(net, target), images + noise)
    torch.testing.assert_close(maps, total / 20, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(maps, explain(net, images, draws, target=target), rtol=1e-2)


# ---- Captum ----


@pytest.mark.parametrize("of", OF)
def test_maps_are_captums(
    of: Of, net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    explained = Explained(net, target, of)
    x = images.clone().requires_grad_()
    expected = {
        "gradient": captum.attr.Saliency(explained).attribute(x, abs=False),
        "gradient_x_input": captum.attr.Saliency(explained).attribute(x, abs=False) * (x - 0.5),
        "integrated_gradients": torch.cat(
            [
                captum.attr.IntegratedGradients(Explained(net, target[n : n + 1], of)).attribute(
                    x[n : n + 1], n_steps=50, method="riemann_middle"
                )
                for n in range(N)
            ]
        ),
    }
    for name, reference in expected.items():
        got = explain(net, images, draws, attribution=name, of=of, target=target)
        torch.testing.assert_close(got, reference.detach(), rtol=1e-4, atol=1e-6)


# ---- the scalar that is attributed ----


def test_log_odds_gradient_is_the_negated_cross_entropys_up_to_a_positive_factor(
    net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    maps = explain(net, images, draws, of="log_odds", target=target).flatten(1)
    losses = input_gradient(lambda x: F.cross_entropy(net(x), target, reduction="none"), images)
    p = net(images).softmax(1).gather(1, target[:, None])
    assert (p < 0.99).all()
    torch.testing.assert_close(-maps * (1 - p), losses.flatten(1), rtol=1e-3, atol=1e-6)


def test_log_odds_do_not_underflow_where_the_cross_entropy_does(
    linear: nn.Sequential, images: Tensor, draws: Draws
) -> None:
    with torch.no_grad():
        linear[1].weight.mul_(0.1)
        linear[1].bias.copy_(torch.tensor([200.0, 0, 0, 0, -50]))
    target = torch.zeros(N, dtype=torch.long)
    assert (linear(images).argmax(1) == 0).all()
    losses = input_gradient(lambda x: F.cross_entropy(linear(x), target, reduction="none"), images)
    assert (losses == 0).all()
    maps = explain(linear, images, draws, of="log_odds", target=target).flatten(1)
    weight = linear[1].weight
    others = linear(images)[:, 1:].softmax(1) @ weight[1:]
    torch.testing.assert_close(maps, weight[0] - others, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["gradient", "gradient_x_input", "integrated_gradients"])
@pytest.mark.parametrize("of", OF)
def test_all_scalars_but_the_logit_ignore_what_is_added_to_all_logits(
    of: Of, method: str, net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    plain, shifted = (
        explain(model, images, draws, attribution=method, of=of, target=target)
        for model in (net, Shifted(net))
    )
    same = torch.allclose(plain, shifted, rtol=1e-3, atol=1e-5)
    assert same == (of != "logit")


# ---- explain ----


def test_the_predicted_class_is_explained_unless_another_is_asked_for(
    net: nn.Sequential, images: Tensor, draws: Draws
) -> None:
    net[3].bias -= net(images).mean(0)  # so that not all images are of one class
    predicted = net(images).argmax(1)
    assert len(predicted.unique()) > 1
    maps = explain(net, images, draws)
    assert torch.equal(maps, explain(net, images, draws, target=predicted))
    assert not torch.allclose(maps, explain(net, images, draws, target=(predicted + 1) % CLASSES))


def test_random_maps_know_neither_model_nor_image(
    net: nn.Sequential, linear: nn.Sequential, images: Tensor, draws: Draws
) -> None:
    one = explain(net, images, draws, attribution="random")
    assert torch.equal(one, explain(linear, 1 - images, draws, attribution="random"))
    other = explain(net, images, Draws(12, IDS), attribution="random")
    assert not torch.equal(one, other)
    many = explain(net, images.repeat(60, 1, 1, 1), Draws(0, torch.arange(420)),
                   attribution="random")  # fmt: skip
    assert many.mean().item() == pytest.approx(0, abs=0.05)
    assert many.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_does_not_depend_on_the_batch(
    method: str, net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    together = explain(net, images, draws, attribution=method, target=target)
    assert together.shape == images.shape
    alone = torch.cat(
        [
            explain(net, images[p], draws[p], attribution=method, target=target[p])
            for p in (slice(0, 1), slice(1, 5), slice(5, 7))
        ]
    )
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_explaining_leaves_model_images_and_generator_alone(
    method: str, images: Tensor, draws: Draws
) -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(images.shape[1]), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(images[0].numel(), CLASSES),
    ).train()  # fmt: skip
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, state = images.clone(), torch.get_rng_state()
    maps = explain(model, x, draws, attribution=method)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, images)
    assert not x.requires_grad
    assert not maps.requires_grad
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# ---- pixels ----


def test_a_pixels_importance_is_the_sum_of_its_channels_absolute_values() -> None:
    maps = torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1).repeat(2, 1, 2, 2)
    maps[1, 0, 0, 1] = -7
    assert pixel_map(maps).tolist() == [[[6, 6], [6, 6]], [[6, 12], [6, 6]]]


@pytest.mark.parametrize("fraction", [0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99, 1])
@pytest.mark.parametrize("ties", ["all", "half", "none"])
def test_top_marks_exactly_the_asked_number(fraction: float, ties: str) -> None:
    values = Draws(0, torch.arange(20)).uniform(6, 7)
    values = {"all": values * 0, "half": values.where(values > 0.5, 0), "none": values}[ties]
    mask = top(values, fraction, Draws(1, torch.arange(20)))
    assert mask.dtype == torch.bool
    assert mask.flatten(1).sum(1).tolist() == [round(fraction * 42)] * 20


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.7])
def test_top_is_the_true_top(fraction: float) -> None:
    values = Draws(0, torch.arange(20)).normal(6, 7)  # negative ones, too
    mask = top(values, fraction, Draws(1, torch.arange(20)))
    for one, marked in zip(values, mask, strict=True):
        order = sorted(range(42), key=lambda i: -one.flatten()[i].item())
        expected = set(order[: round(fraction * 42)])
        assert set(marked.flatten().nonzero().flatten().tolist()) == expected


def test_tied_pixels_never_outrank_greater_ones() -> None:
    values = (Draws(0, torch.arange(50)).uniform(6, 7) * 4).floor()  # four values
    mask = top(values, 0.3, Draws(1, torch.arange(50)))
    for one, marked in zip(values, mask, strict=True):
        assert one[marked].min() >= one[~marked].max()


def test_ties_are_broken_at_random_per_image_and_seed() -> None:
    ties = torch.zeros(400, 6, 7)
    draws = Draws(1, torch.arange(400))
    mask = top(ties, 0.3, draws)
    assert len(mask.flatten(1).unique(dim=0)) > 390
    assert torch.equal(mask, top(ties, 0.3, draws))
    assert torch.equal(mask[7:9], top(ties[7:9], 0.3, draws[7:9]))
    assert not torch.equal(mask, top(ties, 0.3, Draws(2, torch.arange(400))))
    share = mask.float().mean(0)  # every pixel equally often: 13/42, s.e. 0.023
    assert (share - 13 / 42).abs().max() < 0.1


def test_top_masks_of_rising_fractions_are_nested() -> None:
    values = (Draws(0, torch.arange(9)).uniform(6, 7) * 3).floor()
    masks = [top(values, f, Draws(1, torch.arange(9))) for f in (0.1, 0.3, 0.6)]
    assert (masks[0] <= masks[1]).all()
    assert (masks[1] <= masks[2]).all()
