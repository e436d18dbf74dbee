"""Attributions: linear models, literal sums, Captum called directly; and which pixels are the top ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import get_args

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.attacks import input_gradient
from metrics.attribution import AttributionName, Explained, Of, explain
from metrics.case import NotApplicable
from metrics.edges import sobel
from metrics.importance import Reduction, pixel_map, softened, top
from metrics.randomness import Draws

METHODS: tuple[str, ...] = get_args(AttributionName)
OF: tuple[Of, ...] = get_args(Of)
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
            normal = Draws(i + 5, torch.arange(1)).normal(*parameter.shape)[0]
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
def relu_net(images: Tensor) -> nn.Sequential:
    """A step of every kind that has a rule."""
    return seeded(
        nn.Conv2d(images.shape[1], 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Conv2d(6, 4, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(24, CLASSES),
    )  # fmt: skip


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
        "probability": float(p[k]),
        "cross_entropy": -float(p[k].log()),
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


@pytest.mark.parametrize("of", ["log_odds", "logit", "log_probability", "probability"])
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


def literal_noisy_gradients(
    name: str, model: nn.Module, images: Tensor, target: Tensor, draws: Draws
) -> Tensor:
    """(20, n, C, H, W), one image and copy at a time."""
    own = draws.fork("attribution", name)
    rows = []
    for i in range(20):
        noise = 0.15 * own.fork("copy", i).normal(*images.shape[1:])
        rows.append(torch.cat([
            input_gradient(Explained(model, target[n : n + 1]), (images + noise)[n : n + 1])
            for n in range(N)
        ]))  # fmt: skip
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["smoothgrad_squared", "vargrad"])
def test_moments_of_noisy_gradients_literally(
    name: str, net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    rows = literal_noisy_gradients(name, net, images, target, draws).double()
    mean = rows.sum(0) / 20
    expected = {
        "smoothgrad_squared": rows.square().sum(0) / 20,
        "vargrad": (rows - mean).square().sum(0) / 20,
    }[name]
    got = explain(net, images, draws, attribution=name, target=target)
    torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-8)


def test_moments_of_noisy_gradients_of_a_linear_logit(
    linear: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    squared, variance = (
        explain(linear, images, draws, attribution=name, of="logit", target=target)
        for name in ("smoothgrad_squared", "vargrad")
    )
    torch.testing.assert_close(squared.flatten(1), linear[1].weight[target].square())
    assert variance.abs().max() < 1e-12


class Quadratic(nn.Module):
    """Logits (x' A x / 2, 0): the gradient of the first is A x, whose noise is sigma A n."""

    def __init__(self) -> None:
        super().__init__()
        a = Draws(3, torch.arange(1)).normal(6, 6)[0]
        self.a = a + a.T

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return F.pad((flat @ self.a * flat).sum(1, keepdim=True) / 2, (0, 1))


def test_moments_of_noisy_gradients_of_a_quadratic_logit() -> None:
    """E SG^2 = (A x)^2 + sigma^2 sum_j A_ij^2, E VarGrad = 19/20 of the second term."""
    model, many = Quadratic(), 2000
    x, draws = torch.full((many, 1, 2, 3), 0.3), Draws(0, torch.arange(many))
    target = torch.zeros(many, dtype=torch.long)
    squared, variance = (
        explain(model, x, draws, attribution=name, of="logit", target=target).flatten(1).mean(0)
        for name in ("smoothgrad_squared", "vargrad")
    )
    spread = 0.15**2 * model.a.square().sum(1)
    torch.testing.assert_close(variance, 19 / 20 * spread, rtol=0.04, atol=0)
    torch.testing.assert_close(
        squared, (x[0].flatten() @ model.a).square() + spread, rtol=0.04, atol=0.02
    )


def test_gradient_shap_literally(
    net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    own, total = draws.fork("attribution", "gradient_shap"), torch.zeros_like(images)
    for i in range(50):
        colour = own.fork("colour", i).uniform(images.shape[1], 1, 1)
        along = own.fork("along", i).uniform(1, 1, 1)
        for n in range(N):
            plain = colour[n].expand_as(images[n])
            point = plain + along[n] * (images[n] - plain)
            slope = input_gradient(Explained(net, target[n : n + 1]), point[None])[0]
            total[n] += (images[n] - plain) * slope
    got = explain(net, images, draws, attribution="gradient_shap", target=target)
    torch.testing.assert_close(got, total / 50, rtol=1e-3, atol=1e-6)


def test_gradient_shap_of_a_linear_logit_measures_from_the_mean_colour() -> None:
    linear, many = seeded(nn.Flatten(), nn.Linear(12, CLASSES)), 500
    x, draws = torch.full((many, 3, 2, 2), 0.8), Draws(0, torch.arange(many))
    target = torch.ones(many, dtype=torch.long)
    maps = explain(linear, x, draws, attribution="gradient_shap", of="logit", target=target)
    weight = linear[1].weight[1]
    # a colour has a deviation of 12^-1/2, the mean is over 50 x 500 of them
    error = weight.abs() / (12 * 50 * many) ** 0.5
    assert ((maps.flatten(1).mean(0) - weight * 0.3).abs() < 4 * error).all()
    assert (maps.flatten(1) - weight * 0.3).abs().max() > error.max()


@pytest.mark.parametrize(
    ("size", "window", "stride"), [((4, 5), (2, 2), (1, 1)), ((9, 25), (2, 3), (1, 2))]
)
def test_occlusion_literally(
    size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], draws: Draws
) -> None:
    x, (height, width) = Draws(1, IDS).uniform(2, *size), size
    net = seeded(nn.Flatten(), nn.Linear(2 * height * width, 9), nn.SiLU(), nn.Linear(9, CLASSES))
    target = net(x).argmax(1)
    got = explain(net, x, draws, attribution="occlusion", of="margin")
    for n in range(3):
        whole = scalar("margin", net(x[n : n + 1])[0].tolist(), int(target[n]))
        falls = torch.zeros(2, height, width)
        for top_ in range(0, height - window[0] + stride[0], stride[0]):
            for left in range(0, width - window[1] + stride[1], stride[1]):
                hidden, rows, columns = (
                    x[n].clone(),
                    slice(top_, top_ + window[0]),
                    slice(left, left + window[1]),
                )
                hidden[:, rows, columns] = 0.5
                fall = whole - scalar("margin", net(hidden[None])[0].tolist(), int(target[n]))
                falls[:, rows, columns] += torch.tensor([fall, 1]).view(2, 1, 1)
        torch.testing.assert_close(
            got[n], (falls[0] / falls[1]).expand(2, -1, -1), rtol=1e-3, atol=1e-5
        )


# ---- rules within the network ----


def two_logits(function: Callable[[Tensor], Tensor]) -> nn.Module:
    """Logits (function of the flat image, 0)."""

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.pad(function(x.flatten(1))[:, None], (0, 1))

    return Model()


def of_first_logit(model: nn.Module, x: list[float], method: str) -> list[float]:
    image = torch.tensor(x, dtype=torch.float64).view(1, 1, 1, -1)
    maps = explain(model, image, Draws(0, torch.arange(1)), attribution=method, of="logit",
                   target=torch.zeros(1, dtype=torch.long))  # fmt: skip
    return [float(value) for value in maps.flatten()]


def test_deeplift_sees_through_saturation() -> None:
    """The first figure of the paper: 1 - relu(1 - a - b) is flat at (1, 1), where each input has moved it by 1/2."""
    model = two_logits(lambda v: 1 - F.relu(1 - v[:, 0] - v[:, 1]))
    assert of_first_logit(model, [1, 1], "gradient") == [0, 0]
    assert of_first_logit(model, [1, 1], "deeplift") == pytest.approx([0.5, 0.5])
    # whatever the shares in which the inputs close the ReLU
    assert of_first_logit(model, [0.25, 0.75], "deeplift") == pytest.approx([0.25, 0.75])


def test_deeplift_shares_the_gain_of_a_maximum_by_hand() -> None:
    """The gain over the reference is the image's largest pixel's, a loss the reference's largest's."""

    def maximum(v: Tensor) -> Tensor:
        shifted = torch.stack([v[:, 0], 2 - v[:, 1]], 1)  # (0, 2) at the reference
        return F.max_pool2d(shifted[:, None, None], (1, 2)).flatten()

    assert of_first_logit(two_logits(maximum), [3, 0.5], "deeplift") == pytest.approx([1, 0])
    assert of_first_logit(two_logits(maximum), [0.25, 1.5], "deeplift") == pytest.approx([0, -1.5])
    assert of_first_logit(two_logits(maximum), [1, 0.5], "deeplift") == pytest.approx([0, -0.5])


@pytest.mark.parametrize("of", OF)
def test_deeplift_is_complete(
    of: Of, relu_net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    """With ReLU before max pooling, where Captum's is not: to the logits; from there on to first order."""
    exact = relu_net.double()
    x, black = images.double(), torch.zeros_like(images).double()
    maps = explain(exact, x, draws, attribution="deeplift", of=of, target=target).flatten(1)
    logits = exact(x).requires_grad_()
    (slopes,) = torch.autograd.grad(Explained(exact, target, of).scalar(logits).sum(), logits)
    change = (slopes * (logits - exact(black))).sum(1)
    torch.testing.assert_close(maps.sum(1), change.detach())
    if of == "logit":
        explained = Explained(exact, target, of)
        torch.testing.assert_close(maps.sum(1), explained(x) - explained(black))


class Hand(nn.Module):
    """conv, activation, max pooling, and a convolution behind an activation: by modules or by functions."""

    def __init__(self, channels: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.convolutions = seeded(
            nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, 3, 2), nn.Linear(24, CLASSES)
        )
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.convolutions
        hidden = F.max_pool2d(self.activation(first(x)), 2, stride=1)
        return last(self.activation(F.pad(second(hidden), (0, 1, 0, 1))).flatten(1)[:, :24])


ONE = nn.ReLU()


@pytest.mark.parametrize("method", ["deeplift", "guided_backprop", "grad_cam"])
@pytest.mark.parametrize(
    "activation",
    [ONE, F.relu, torch.relu, lambda x: F.relu(input=x), lambda x: F.relu(x, inplace=True),
     lambda x: torch.relu_(x), lambda x: (x.relu_(), x)[1]],
    ids=["reused", "F", "torch", "keyword", "inplace", "relu_", "method"],
)  # fmt: skip
def test_a_rule_holds_however_the_activation_is_written(
    method: str,
    activation: Callable[[Tensor], Tensor],
    images: Tensor,
    target: Tensor,
    draws: Draws,
) -> None:
    written, modules = (Hand(images.shape[1], each) for each in (activation, nn.ReLU()))
    got, expected = (
        explain(model, images, draws, attribution=method, target=target)
        for model in (written, modules)
    )
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    "name", ["gelu", "silu", "softplus", "tanh", "leaky_relu", "elu", "sigmoid", "hardswish"]
)
def test_deeplift_knows_other_activations(
    name: str, images: Tensor, target: Tensor, draws: Draws
) -> None:
    activation = getattr(F, name, None) or getattr(torch, name)
    exact = Hand(images.shape[1], activation).double()
    x, explained = images.double(), Explained(exact, target, "logit")
    maps = explain(exact, x, draws, attribution="deeplift", of="logit", target=target)
    change = explained(x) - explained(torch.zeros_like(x))
    torch.testing.assert_close(maps.flatten(1).sum(1), change.detach())


def test_deeplift_of_a_step_without_a_rule_is_told(images: Tensor, draws: Draws) -> None:
    squares = two_logits(lambda v: (v * v).sum(1))
    with pytest.raises(NotApplicable, match="has a step without a rule"):
        explain(squares, images, draws, attribution="deeplift")
    constant = two_logits(lambda v: 0 * v.sum(1) + 3)
    assert (explain(constant, images, draws, attribution="deeplift") == 0).all()
    assert explain(squares, 0 * images, draws, attribution="deeplift").abs().max() == 0


def test_guided_backprop_by_hand() -> None:
    """relu(a - b) - relu(b - 2 a) at (3, 1), and at (1, 3): what comes back negative stays out."""
    model = two_logits(lambda v: F.relu(v[:, 0] - v[:, 1]) - F.relu(v[:, 1] - 2 * v[:, 0]))
    assert of_first_logit(model, [3, 1], "guided_backprop") == [1, -1]
    assert of_first_logit(model, [1, 3], "gradient") == [2, -1]
    assert of_first_logit(model, [1, 3], "guided_backprop") == [0, 0]
    # two layers: the hidden gradient of the second ReLU's input is (1, -1), its negative half ends at the first
    deep = two_logits(lambda v: F.relu(F.relu(v[:, 0]) - F.relu(v[:, 1])))
    assert of_first_logit(deep, [3, 1], "gradient") == [1, -1]
    assert of_first_logit(deep, [3, 1], "guided_backprop") == [1, 0]


def test_grad_cam_literally(
    relu_net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    got = explain(relu_net, images, draws, attribution="grad_cam", of="logit", target=target)
    first, last, weight = relu_net[:4], relu_net[4:], relu_net[6].weight
    height, width = images.shape[2:]
    for n, k in enumerate(target.tolist()):
        features = first(images[n : n + 1])[
            0
        ]  # (4, 2, 3): of the second convolution, before its ReLU
        slopes = weight[k].view(4, 2, 3) * (features > 0)
        coarse = sum(slopes[c].mean() * features[c] for c in range(4)).clamp_min(0)
        for i in range(height):
            for j in range(width):
                # centres of pixels, the border repeated
                row = min(max((i + 0.5) * 2 / height - 0.5, 0), 1)
                column = min(max((j + 0.5) * 3 / width - 0.5, 0), 2)
                above, left = math.floor(row), math.floor(column)
                value = sum(
                    (1 - abs(row - r)) * (1 - abs(column - c)) * float(coarse[r, c])
                    for r in {above, min(above + 1, 1)}
                    for c in {left, min(left + 1, 2)}
                )
                assert got[n, :, i, j].tolist() == pytest.approx(
                    [value] * images.shape[1], rel=1e-4, abs=1e-6
                )
    assert (got > 0).any()
    assert last(first(images)).isfinite().all()


def test_grad_cam_takes_the_last_convolution_that_runs_and_has_an_extent(
    images: Tensor, draws: Draws
) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(4, CLASSES, 1)
            self.second = nn.Conv2d(3, 4, 3)
            self.first = nn.Conv2d(images.shape[1], 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.second(self.first(x)).mean((2, 3), keepdim=True)).flatten(1)

    model = Model()
    for i, parameter in enumerate(model.parameters()):
        nn.init.uniform_(parameter, 0.1, 1, generator=torch.Generator().manual_seed(i))
    reference = captum.attr.LayerGradCam(
        Explained(model, model(images).argmax(1), "logit"), model.second
    )
    cam = reference.attribute(images, relu_attributions=True)
    expected = captum.attr.LayerAttribution.interpolate(
        cam, images.shape[2:], "bilinear"
    ).expand_as(images)
    got = explain(model, images, draws, attribution="grad_cam", of="logit")
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(got, expected.detach())


def test_grad_cam_passes_over_convolutions_that_the_logits_do_not_need(
    images: Tensor, draws: Draws
) -> None:
    class Auxiliary(nn.Module):
        """A second head runs after the first, and its result is thrown away."""

        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(images.shape[1], 3, 3)
            self.head = nn.Linear(3, CLASSES)
            self.other = nn.Conv2d(3, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            features = self.features(x)
            logits = self.head(features.relu().mean((2, 3)))
            self.other(features)
            return logits

    class Main(Auxiliary):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x).relu().mean((2, 3)))

    class Thrown(Auxiliary):
        def forward(self, x: Tensor) -> Tensor:
            self.features(x)
            return x.mean((2, 3)).sum(1, keepdim=True) * torch.arange(CLASSES)

    model, main = Auxiliary(), Main()
    main.load_state_dict(model.state_dict())
    got, expected = (explain(m, images, draws, attribution="grad_cam") for m in (model, main))
    assert torch.equal(got, expected)
    with pytest.raises(NotApplicable, match="a convolution that the logits depend on"):
        explain(Thrown(), images, draws, attribution="grad_cam")


def test_deeplift_says_that_the_batch_must_be_the_first_axis(images: Tensor, draws: Draws) -> None:
    """A sequence model whose tokens come first: its activations are not those of images and references."""
    straight, turned = (
        two_logits(lambda v, turn=turn: turn((turn(v) - 0.5).relu()).sum(1))
        for turn in (lambda v: v, lambda v: v.T)
    )
    assert explain(straight, images, draws, attribution="deeplift").isfinite().all()
    with pytest.raises(NotApplicable, match="of tensors whose first axis is the batch"):
        explain(turned, images, draws, attribution="deeplift")


def test_a_clamp_is_no_relu(images: Tensor, draws: Draws) -> None:
    with pytest.raises(NotApplicable, match="a clamp at 0 is not taken for one"):
        explain(
            two_logits(lambda v: v.clamp(min=0).sum(1)),
            images,
            draws,
            attribution="guided_backprop",
        )


@pytest.mark.parametrize(
    ("method", "message"), [("guided_backprop", "calls none"), ("grad_cam", "needs a convolution")]
)
def test_what_has_no_meaning_for_a_model_is_told(
    method: str, message: str, linear: nn.Sequential, images: Tensor, draws: Draws
) -> None:
    with pytest.raises(NotApplicable, match=message):
        explain(linear, images, draws, attribution=method)


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


@pytest.mark.filterwarnings("ignore:Setting")
def test_rules_are_captums_where_it_keeps_them(
    images: Tensor, target: Tensor, draws: Draws
) -> None:
    """Modules, each used once, and none that is hooked directly behind another."""
    pooled = seeded(
        nn.Conv2d(images.shape[1], 6, 3, padding=1), nn.MaxPool2d(2, 2), nn.Conv2d(6, 4, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 8), nn.Softplus(), nn.Linear(8, CLASSES),
    )  # fmt: skip
    explained = Explained(pooled, target, "logit")
    cam = captum.attr.LayerGradCam(explained, pooled[2]).attribute(
        images.clone().requires_grad_(), relu_attributions=True
    )
    expected = {
        "deeplift": captum.attr.DeepLift(explained).attribute(images.clone().requires_grad_()),
        "guided_backprop": captum.attr.GuidedBackprop(explained).attribute(images.clone().requires_grad_()),
        "grad_cam": captum.attr.LayerAttribution.interpolate(cam, images.shape[2:], "bilinear").expand_as(images),
    }  # fmt: skip
    for name, reference in expected.items():
        got = explain(pooled, images, draws, attribution=name, of="logit", target=target)
        assert got.abs().max() > 0
        torch.testing.assert_close(got, reference.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("smoothgrad", "smoothgrad"), ("smoothgrad_squared", "smoothgrad_sq"), ("vargrad", "vargrad")],
)
def test_noisy_gradients_are_captums_with_the_same_noise(
    name: str, kind: str, net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own = draws.fork("attribution", name)
    noise = torch.stack([own.fork("copy", i).normal(*images.shape[1:]) for i in range(20)], 1)
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: noise.flatten(0, 1) * deviation)
    scalars = Explained(
        net, target.repeat_interleave(20)
    )  # Captum's copies of an image follow each other
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(scalars))
    expected = tunnel.attribute(images, nt_type=kind, nt_samples=20, stdevs=0.15, abs=False)
    got = explain(net, images, draws, attribution=name, target=target)
    torch.testing.assert_close(got, expected.detach(), rtol=1e-3, atol=1e-6)


def test_gradient_shap_is_captums_at_the_same_points(
    net: nn.Sequential,
    images: Tensor,
    target: Tensor,
    draws: Draws,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from captum.attr._core.gradient_shap import InputBaselineXGradient

    own, explained = draws.fork("attribution", "gradient_shap"), Explained(net, target)
    rows = []
    for i in range(50):
        along = own.fork("along", i).uniform(1).flatten().numpy()
        monkeypatch.setattr(np.random, "uniform", lambda *_, along=along: along)
        plain = own.fork("colour", i).uniform(images.shape[1], 1, 1).expand_as(images)
        rows.append(InputBaselineXGradient(explained).attribute(images.clone(), plain).detach())
    got = explain(net, images, draws, attribution="gradient_shap", target=target)
    torch.testing.assert_close(got, torch.stack(rows).mean(0), rtol=1e-3, atol=1e-6)


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


@pytest.mark.parametrize("lead", [5.0, 18.0, 30.0, 80.0])
@pytest.mark.parametrize("of", OF)
def test_maps_of_sure_models_point_where_those_in_float64_do(
    of: Of, lead: float, linear: nn.Sequential, images: Tensor, draws: Draws
) -> None:
    with torch.no_grad():
        linear[1].weight.mul_(0.1)
        linear[1].bias.copy_(torch.tensor([lead, 0, 0, 0, -5]))
    target = torch.zeros(N, dtype=torch.long)
    single, double = (
        explain(model, x, draws, of=of, target=target).flatten(1).double()
        for model, x in ((linear, images), (copy.deepcopy(linear).double(), images.double()))
    )
    assert (F.cosine_similarity(single, double, eps=1e-300) > 0.99999).all()


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


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
def test_the_loss_is_the_negated_log_probability(
    method: str, net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    loss, log = (
        explain(net, images, draws, attribution=method, of=of, target=target)
        for of in ("cross_entropy", "log_probability")
    )
    torch.testing.assert_close(loss, -log)


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


def test_sobels_map_is_the_images_edges(
    net: nn.Sequential, linear: nn.Sequential, images: Tensor, draws: Draws
) -> None:
    maps = explain(net, images, draws, attribution="sobel")
    assert torch.equal(maps, explain(linear, images, Draws(12, IDS), attribution="sobel"))
    torch.testing.assert_close(pixel_map(maps), images.shape[1] * sobel(images))


@pytest.mark.parametrize("name", ["gradient", "smoothgrad", "random"])
def test_a_blurred_map_is_the_absolute_map_behind_a_gaussian(
    name: str, net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    plain, soft = (
        explain(net, images, draws, attribution=each, target=target)
        for each in (name, f"blurred_{name}")
    )
    height, width = images.shape[2:]
    for i in range(height):
        for j in range(width):
            rows = torch.tensor([math.exp(-((i - k) ** 2) / 2) for k in range(height)])
            columns = torch.tensor([math.exp(-((j - k) ** 2) / 2) for k in range(width)])
            weights = torch.outer(rows / rows.sum(), columns / columns.sum())
            torch.testing.assert_close(soft[:, :, i, j], (plain.abs() * weights).sum((2, 3)))
    torch.testing.assert_close(pixel_map(soft), softened(pixel_map(plain)[:, None]).squeeze(1))


def test_the_gaussian_grows_with_the_image() -> None:
    point = torch.zeros(1, 1, 65, 129)
    point[0, 0, 32, 64] = 1
    soft = softened(point)[0, 0]
    ratio = float(soft[32, 64 + 4] / soft[32, 64])
    assert ratio == pytest.approx(math.exp(-0.5 * (4 / (65 / 16)) ** 2), rel=1e-4)
    assert soft.sum().item() == pytest.approx(1, abs=1e-4)


def test_an_unknown_attribution_is_told(
    linear: nn.Sequential, images: Tensor, draws: Draws
) -> None:
    for name in ("gradeint", "frozen", "blurred_sobel"):
        with pytest.raises(ValueError, match=f"attribution '{name}' is unknown; valid: gradient, "):
            explain(linear, images, draws, attribution=name)


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
    method: str, relu_net: nn.Sequential, images: Tensor, target: Tensor, draws: Draws
) -> None:
    together = explain(relu_net, images, draws, attribution=method, target=target)
    assert together.shape == images.shape
    assert together.abs().amax() > 0
    alone = torch.cat(
        [
            explain(relu_net, images[p], draws[p], attribution=method, target=target[p])
            for p in (slice(0, 1), slice(1, 5), slice(5, 7))
        ]
    )
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_explaining_leaves_model_images_and_generator_alone(
    method: str, images: Tensor, draws: Draws
) -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(images.shape[1]), nn.Conv2d(images.shape[1], 3, 3), nn.ReLU(inplace=True),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(3, CLASSES),
    ).train()  # fmt: skip
    before = {name: value.clone() for name, value in model.state_dict().items()}
    facts = [(set(vars(m)), len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()]
    x, state, numpys = images.clone(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    maps = explain(model, x, draws, attribution=method)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == numpys
    assert facts == [
        (set(vars(m)), len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()
    ]
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


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("sum_abs", 6.0), ("abs_sum", 4.0), ("sum", -4.0), ("max_abs", 3.0), ("l2", 14**0.5)],
)
def test_other_reductions(reduction: Reduction, expected: float) -> None:
    maps = torch.tensor([1.0, -2.0, -3.0]).view(1, 3, 1, 1).repeat(2, 1, 2, 2)
    torch.testing.assert_close(pixel_map(maps, reduction), torch.full((2, 2, 2), expected))
    assert pixel_map(maps[:, 1:2], reduction).abs().unique().tolist() == [2]


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


def test_the_length_over_channels_is_that_of_small_numbers_too() -> None:
    maps = torch.tensor([3e-25, 4e-25]).view(1, 2, 1, 1)
    assert pixel_map(maps, "l2").item() == pytest.approx(5e-25, rel=1e-6)
