"""Gradients against pictures: the image itself, class means, a VAE's corrections. Closed forms and literal versions."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from metrics.case import Case, NotApplicable
from metrics.manifold._cosine import cosine
from metrics.manifold.etmann_alignment import etmann_alignment
from metrics.manifold.pag_cosine import pag_cosine
from metrics.manifold.vae_score_cosine import vae_score_cosine
from metrics.randomness import Draws

SHAPE = (1, 4, 5)


def images(n: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return Draws(seed, torch.arange(n)).uniform(*shape)


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], len(weight)))
    with torch.no_grad():
        model[1].weight.copy_(weight)
        model[1].bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return model.eval().requires_grad_(False)


def network(classes: int, *, bias: bool = True) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(20, 16, bias=bias), nn.ReLU(), nn.Linear(16, classes, bias=bias)]
        return nn.Sequential(nn.Flatten(), *layers).eval().requires_grad_(False)


class Moves:
    """A manifold of which only the projection is known."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.project = change


def case(
    model: nn.Module,
    x: Tensor,
    *,
    classes: int = 3,
    train_x: Tensor | None = None,
    train_y: Tensor | None = None,
    project: Callable[[Tensor], Tensor] = lambda x: x + 0.1,
) -> Case:
    draws, train_x = Draws(3, torch.arange(len(x))), x if train_x is None else train_x
    return Case(
        model=model, x=x, y=torch.zeros(len(x)).long(), draws=draws, train_x=train_x,
        train_draws=Draws(3, torch.arange(len(train_x))), threat=None, classes=classes,
        grade=lambda _: {}, refit=lambda _: x, manifold=lambda *_: Moves(project),  # type: ignore[arg-type]
        surrogate=lambda _: model, train_y=train_y,
    )  # fmt: skip


def test_the_cosine_does_not_depend_on_the_size_of_the_numbers() -> None:
    a, b = images(6, 1) - 0.5, images(6, 2) - 0.5
    expected = [
        (p @ q / (p.norm() * q.norm())).item()
        for p, q in zip(a.flatten(1).double(), b.flatten(1).double(), strict=True)
    ]
    for scale in (1, 1e-20, 1e20):
        assert cosine(a * scale, b).tolist() == pytest.approx(expected, abs=1e-6)
        assert cosine(b, a * scale).tolist() == pytest.approx(expected, abs=1e-6)
    a[2] = 0
    assert cosine(a, b).isnan().tolist() == [n == 2 for n in range(6)]


# ---- Etmann's alignment ----


def test_for_a_linear_model_of_two_classes_the_alignment_is_the_distance_to_the_border() -> None:
    """Etmann et al. 2019: alpha(x) = rho(x) without a bias."""
    w = Draws(1, torch.arange(2)).normal(20)
    x = images(8)
    got = etmann_alignment(case(linear(w), x, classes=2))
    difference = w[0] - w[1]
    distance = (x.flatten(1) @ difference).abs() / difference.norm()
    torch.testing.assert_close(got["alignment"], distance)
    torch.testing.assert_close(got["linearised_robustness"], distance)


def test_without_biases_a_relu_network_aligns_as_far_as_its_linearised_border() -> None:
    got = etmann_alignment(case(network(4, bias=False), images(30), classes=4))
    torch.testing.assert_close(got["alignment"], got["linearised_robustness"], rtol=1e-4, atol=1e-6)
    biased = etmann_alignment(case(network(4), images(30), classes=4))
    assert (biased["alignment"] - biased["linearised_robustness"]).abs().min() > 1e-3


@pytest.mark.parametrize("of", ["margin", "logit"])
@pytest.mark.parametrize("rivals", [1, 3, 9])
def test_the_alignment_literally(of: str, rivals: int) -> None:
    n, k = 12, 5
    model, x, train_x = network(k), images(n), images(40, seed=9)
    got = etmann_alignment(case(model, x, classes=k, train_x=train_x), of=of, rivals=rivals)  # type: ignore[arg-type]

    model, mean = copy.deepcopy(model).double(), train_x.double().mean(0)
    for i in range(n):
        jacobian = torch.autograd.functional.jacobian(model, x[i : i + 1].double())[0]
        z, order = (
            model(x[i : i + 1].double())[0],
            model(x[i : i + 1].double())[0].argsort().flip(0),
        )
        top, others = order[0], order[1 : 1 + rivals]
        gradients = {int(j): (jacobian[top] - jacobian[j]).flatten() for j in others}
        distances = {j: ((z[top] - z[j]) / g.norm()).item() for j, g in gradients.items()}
        nearest = min(distances, key=distances.__getitem__)
        g = gradients[nearest] if of == "margin" else jacobian[top].flatten()
        image = x[i].double().flatten()
        alpha = abs(image @ g) / g.norm()
        assert got["alignment"][i].item() == pytest.approx(alpha.item(), rel=1e-4)
        assert got["cosine"][i].item() == pytest.approx((alpha / image.norm()).item(), rel=1e-4)
        centred = abs((image - mean.flatten()) @ g) / g.norm()
        assert got["centred"][i].item() == pytest.approx(centred.item(), rel=1e-3, abs=1e-5)
        assert got["linearised_robustness"][i].item() == pytest.approx(distances[nearest], rel=1e-4)


def test_contrast_changes_the_alignment_and_not_the_cosine_an_offset_not_the_centred_one() -> None:
    w, x = Draws(1, torch.arange(3)).normal(20), images(8)
    one = etmann_alignment(case(linear(w), x))
    double = etmann_alignment(case(linear(w), 2 * x))
    torch.testing.assert_close(double["alignment"], 2 * one["alignment"])
    torch.testing.assert_close(double["cosine"], one["cosine"])
    shifted = etmann_alignment(case(linear(w, -w.sum(1)), x + 1))
    assert (shifted["alignment"] - one["alignment"]).abs().max() > 0.1
    torch.testing.assert_close(shifted["centred"], one["centred"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_the_scale_of_the_logits_does_not_matter(scale: float) -> None:
    w, x = Draws(1, torch.arange(3)).normal(20), images(8)
    one, scaled = (etmann_alignment(case(linear(factor * w), x)) for factor in (1, scale))
    for name, values in one.items():
        torch.testing.assert_close(scaled[name], values, rtol=1e-5, atol=0)
        assert values.dtype == torch.float32


def test_a_gradient_along_the_image_has_cosine_one() -> None:
    x = images(1)
    w = torch.cat([x.flatten(1), torch.zeros(1, 20)])
    assert etmann_alignment(case(linear(w), x, classes=2))["cosine"].item() == pytest.approx(1)


def test_a_model_without_gradient_has_no_alignment() -> None:
    got = etmann_alignment(case(linear(torch.zeros(3, 20)), images(4)))
    assert all(values.isnan().all() for values in got.values())


# ---- perceptually aligned gradients ----


def labelled(n: int, classes: int) -> tuple[Tensor, Tensor]:
    return images(n, seed=9), torch.arange(n) % classes


@pytest.mark.parametrize("targets", [2, 10])
def test_the_pag_cosine_literally(targets: int) -> None:
    k, n = 4, 7
    model, x = network(k), images(n)
    train_x, train_y = labelled(25, k)
    c = case(model, x, classes=k, train_x=train_x, train_y=train_y)
    got = pag_cosine(c, targets=targets)["cosine"]

    model = copy.deepcopy(model).double()
    order = c.draws.fork("targets").uniform(k).argsort(1)
    for i in range(n):
        cosines = []
        for t in order[i, :targets]:
            image = x[i : i + 1].double().requires_grad_()
            loss = nn.functional.cross_entropy(model(image), t[None])
            g = -torch.autograd.grad(loss, image)[0].flatten()
            of_class = [a.double() for a, label in zip(train_x, train_y, strict=True) if label == t]
            way = (sum(of_class) / len(of_class) - x[i].double()).flatten()  # type: ignore[operator]
            cosines.append((g @ way / (g.norm() * way.norm())).item())
        assert len(cosines) == min(targets, k)
        assert got[i].item() == pytest.approx(sum(cosines) / len(cosines), abs=1e-5)


def test_gradients_that_point_to_the_class_means_have_cosine_one() -> None:
    """Logits -||x - mu_t||^2 / 2 have the gradients mu_t - x; for two classes the log-odds' is mu_t - mu_other."""

    class Distances(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -((x.flatten(1)[:, None] - means) ** 2).sum(2) / 2

    train_x, train_y = labelled(20, 2)
    means = torch.stack([train_x[train_y == t].mean(0).flatten() for t in range(2)])
    # on the line through both means, beyond neither
    x = (means[:1] + 0.5 * (means[1:] - means[:1])).view(1, *SHAPE)
    c = case(Distances().eval(), x, classes=2, train_x=train_x, train_y=train_y)
    assert pag_cosine(c)["cosine"].item() == pytest.approx(1, abs=1e-5)


def test_random_gradients_have_cosine_zero() -> None:
    n, shape = 250, (3, 8, 8)
    w = Draws(4, torch.arange(n)).normal(2, 192)

    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("nd,nkd->nk", x.flatten(1), w[: len(x)])

    x = images(n, shape=shape)
    train = {"train_x": images(20, 9, shape), "train_y": torch.arange(20) % 2}
    got = pag_cosine(case(Own().eval(), x, classes=2, **train))["cosine"]
    assert abs(got.mean().item()) < 4 / math.sqrt(192 * n)


def test_a_sure_model_still_has_a_direction() -> None:
    """The gradient of the cross-entropy is 0 in float32 where p_t is 1; its direction is that of the log-odds."""
    w, x = Draws(1, torch.arange(3)).normal(20), images(5)
    train_x, train_y = labelled(12, 3)
    one, sure = (
        pag_cosine(case(linear(scale * w), x, train_x=train_x, train_y=train_y))["cosine"]
        for scale in (1, 1000)
    )
    assert sure.isfinite().all()
    assert (one - sure).abs().max() < 1


def test_a_class_without_training_images_is_no_target() -> None:
    w, x = Draws(1, torch.arange(3)).normal(20), images(5)
    train_x, _ = labelled(12, 3)
    both = torch.arange(12) % 2  # class 2 has none
    got = pag_cosine(case(linear(w), x, train_x=train_x, train_y=both))["cosine"]
    assert got.isfinite().all()
    with pytest.raises(NotApplicable, match="labels of the training images"):
        pag_cosine(case(linear(w), x, train_x=train_x))


# ---- the VAE's score ----


@pytest.mark.parametrize("of", ["log_odds", "logit", "logit_sum"])
def test_the_score_cosine_literally(of: str) -> None:
    k, n = 4, 7
    model, x = network(k), images(n)

    def project(images: Tensor) -> Tensor:
        return images.mean((2, 3), keepdim=True) * images.flip(3)

    got = vae_score_cosine(case(model, x, classes=k, project=project), of=of)  # type: ignore[arg-type]
    model = copy.deepcopy(model).double()
    for i in range(n):
        image = x[i : i + 1].double().requires_grad_()
        z = model(image)[0]
        top = int(z.argmax())
        odds = z.softmax(0)[top].log() - (1 - z.softmax(0)[top]).log()
        s = {"log_odds": odds, "logit": z[top], "logit_sum": z.sum()}[of]
        g = torch.autograd.grad(s, image)[0].flatten().abs()
        score = (project(image.detach()) - image.detach()).flatten().abs()
        expected = (g @ score / (g.norm() * score.norm())).item()
        assert got["cosine"][i].item() == pytest.approx(expected, abs=1e-4)


def test_chance_is_what_gaussian_gradients_score() -> None:
    n, shape = 250, (3, 8, 8)
    w = Draws(4, torch.arange(n)).normal(1, 192)

    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = torch.einsum("nd,nkd->nk", x.flatten(1), w[: len(x)])
            return torch.cat([score, -score], 1)

    found = vae_score_cosine(
        case(Own().eval(), images(n, shape=shape), classes=2, project=torch.sqrt)
    )
    assert found["cosine"].mean().item() == pytest.approx(found["chance"].mean().item(), rel=0.02)
    even = vae_score_cosine(case(Own().eval(), images(n, shape=shape), classes=2))
    torch.testing.assert_close(even["chance"], torch.full((n,), math.sqrt(2 / math.pi)))


def test_a_gradient_of_the_size_of_the_correction_has_cosine_one() -> None:
    correction = (Draws(5, torch.arange(1)).normal(20) / 10).view(SHAPE)
    sign = torch.tensor([1.0, -1.0]).repeat(10)
    w = torch.stack([correction.flatten() * sign, -correction.flatten() * sign])
    got = vae_score_cosine(case(linear(w), images(4), classes=2, project=lambda x: x + correction))
    torch.testing.assert_close(got["cosine"], torch.ones(4))


def test_images_on_the_manifold_have_no_score() -> None:
    model = linear(Draws(1, torch.arange(3)).normal(20))
    with pytest.raises(NotApplicable, match="lie on the manifold"):
        vae_score_cosine(case(model, images(4), project=lambda x: x + 1e-6))
