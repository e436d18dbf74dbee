"""Masked gradients: what is measured, against closed forms and loops; and the verdict, against exact tests."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import comb

import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from benchmark.gradient_masking import (
    ALPHA,
    DOUBT,
    ENOUGH,
    LIMITS,
    ORDERS,
    REMEDIES,
    Reason,
    Share,
    Verdict,
    outnumbers,
    verdict,
    worst,
)  # fmt: skip
from benchmark.grading import grade
from benchmark.report import health
from benchmark.report.read import COLUMNS
from metrics import attacks
from metrics.case import Case, NotApplicable, predict
from metrics.randomness import Draws
from metrics.robustness.fgsm import fgsm
from metrics.robustness.masking import masking
from metrics.robustness.pgd import pgd
from metrics.robustness.random_noise import random_noise
from metrics.robustness.square import square
from metrics.robustness.transfer import transfer
from metrics.threat import L1, L2, Linf, ThreatModel

N = 60
DRAWS = Draws(3, torch.arange(N))
QUERIES = 60


class Linear(nn.Module):
    """Two classes told apart by a plane: every attack has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        weight = Draws(2, torch.arange(1)).normal(25)[0]
        self.weight = nn.Parameter(torch.stack([weight, -weight]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5).flatten(1) @ self.weight.T


class Around(nn.Module):
    """The plane behind something."""

    def __init__(self, change) -> None:
        super().__init__()
        self.model, self.change = Linear(), change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.model, x)


class Reversed(torch.autograd.Function):
    """The gradient points down."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def case(model: nn.Module, threat: ThreatModel | None, other: nn.Module | None = None) -> Case:
    """Images around the plane, a few of them on the wrong side of it."""
    x = 0.25 + 0.5 * DRAWS.uniform(1, 5, 5)
    y = predict(Linear(), x)
    y[::10] = 1 - y[::10]

    def surrogate(name: str) -> nn.Module:
        if other is None:
            raise NotApplicable(f"the source {name!r} is this very model")
        return other

    def unused(*_: object) -> Tensor:
        raise AssertionError("masking retrains nothing and knows no manifold")

    return Case(
        model=model.eval().requires_grad_(False), x=x, y=y, draws=DRAWS, train_x=x, train_draws=DRAWS,
        threat=threat, classes=2, grade=partial(grade, model, x, y, threat) if threat else unused,
        refit=unused, manifold=unused, surrogate=surrogate,
    )  # fmt: skip


def judged(model: nn.Module, threat: ThreatModel, **settings: object) -> Verdict:
    return verdict(shares(masking(case(model, threat), queries=QUERIES, **settings)))


def shares(scores: dict[str, Tensor]) -> dict[str, Share]:
    seen = {name: score[~score.isnan()] for name, score in scores.items()}
    return {name: Share(float(score.mean()), len(score)) for name, score in seen.items()}


# --- what is measured


def test_on_a_plane_every_gradient_attack_is_the_closed_form() -> None:
    """z_0 - z_1 = 2 w (x - 1/2), and the best perturbation takes 2 eps |w|_1 off it."""
    given = case(Linear(), Linf(0.03))
    scores = masking(given, queries=QUERIES)
    lead = -attacks.margin(given.model(given.x), given.y)
    holds = (lead > 2 * 0.03 * given.model.weight[0].abs().sum()).float()
    assert 0.2 < holds.mean() < 0.8
    for name in ("fgsm", "pgd20", "pgd100", "margin", "white_box"):
        assert torch.equal(scores[name], holds), name
    assert torch.equal(scores["clean"], (lead > 0).float())
    for name in ("noise", "square"):
        assert (scores[name] >= holds).all(), f"{name} cannot beat the best perturbation"
        assert scores[name].mean() > holds.mean()
    for name in ("masked", "large_eps", "zero_gradient", "saturated", "fgsm_only", "square_only"):
        assert (scores[name] == 0).all(), name


def test_each_attack_is_the_metric_of_its_name() -> None:
    given = case(Linear(), L2(0.2), Around(lambda net, x: net(x) + net(x.flip(-1))).eval())
    scores = masking(given, queries=QUERIES)
    alone = {
        "fgsm": fgsm(given),
        "pgd20": pgd(given, steps=20),
        "pgd100": pgd(given, steps=100),
        "margin": pgd(given, steps=100, loss="margin"),
        "square": square(given, queries=QUERIES),
        "noise": random_noise(given),
        "transfer": transfer(given),
    }
    for name, own in alone.items():
        assert torch.equal(scores[name], own["robust_accuracy"]), name
    assert scores["transfer"].mean() < 0.9


def test_who_broke_what_alone_is_counted_image_by_image() -> None:
    """Two models in one that only some attacks can see through, so that no column is empty."""
    given = case(Around(wavy), Linf(0.05), Linear())
    scores = masking(given, queries=QUERIES)
    held = {name: score.tolist() for name, score in scores.items()}
    pairs = [
        ("fgsm", "pgd20"), ("pgd20", "pgd100"), ("margin", "pgd100"),
        ("square", "white_box"), ("noise", "white_box"), ("transfer", "white_box"),
    ]  # fmt: skip
    for i in range(N):
        assert held["white_box"][i] == min(held["pgd100"][i], held["margin"][i])
        for one, other in pairs:
            assert held[f"{one}_only"][i] == float(held[other][i] == 1 and held[one][i] == 0)
        less = any(held[name][i] == 0 for name in ("square", "noise", "transfer"))
        assert held["masked"][i] == float(held["white_box"][i] == 1 and less)
    for name in ("fgsm_only", "square_only", "transfer_only", "masked"):
        assert 0 < scores[name].mean() < 1, name


def wavy(net: nn.Module, x: Tensor) -> Tensor:
    """Ripples on the surface: small steps follow them, a large one does not."""
    return net(x + 0.01 * (300 * x).sin())


def test_dead_and_saturated_gradients_are_found_image_by_image() -> None:
    def partly(net: nn.Module, x: Tensor) -> Tensor:
        """Dark images are cut off, bright ones have logits of thousands."""
        mean = x.mean((1, 2, 3), keepdim=True).detach()
        logits = net(x.where(mean > 0.47, x.detach()))
        return logits * (1 + 1e4 * (mean > 0.52).flatten(1))

    given = case(Around(partly), Linf(0.02))
    scores = masking(given, queries=QUERIES)
    leads = -attacks.margin(given.model(given.x), given.y)
    for i, lead in enumerate(leads.tolist()):
        assert scores["zero_gradient"][i] == float(given.x[i].mean() <= 0.47)
        # exp(-104) is 0 in float32; a misclassified image has a gradient of 1
        if abs(lead - 104) > 10:
            assert scores["saturated"][i] == float(lead > 104 and given.x[i].mean() > 0.52)
    assert 0 < scores["zero_gradient"].mean() < 1
    assert 0 < scores["saturated"].mean() < 1


def test_only_the_first_images_are_attacked() -> None:
    given = case(Linear(), Linf(0.05))
    whole, part = (masking(given, queries=QUERIES, images=n) for n in (N, 25))
    for name, score in part.items():
        assert score.shape == (N,)
        assert score[25:].isnan().all()
        torch.testing.assert_close(score[:25], whole[name][:25], equal_nan=True, rtol=0, atol=0)
    assert whole["transfer"].isnan().all(), "the source is the model itself"
    assert whole["masked"].isfinite().all()


def test_of_several_sources_every_image_meets_the_one_that_breaks_it() -> None:
    def bright(x: Tensor) -> Tensor:
        return (x[:, :, 0, 0] > 0.5).float()  # as good as no gradient for the others

    others = {
        "one": Around(lambda net, x: net(x) * bright(x)),
        "two": Around(lambda net, x: net(x) * (1 - bright(x))),
    }
    given = case(Linear(), L2(0.3))

    def surrogate(name: str) -> nn.Module:
        if name == "itself":
            raise NotApplicable("the source 'itself' is this very model")
        return others[name].eval()

    given = replace(given, surrogate=surrogate)
    held = {name: transfer(given, source=name)["robust_accuracy"] for name in others}
    one, two = held.values()
    assert ((one < two).any(), (two < one).any()) == (True, True)
    scores = masking(given, queries=QUERIES, source=("one", "itself", "two"))
    assert torch.equal(scores["transfer"], one * two)
    only = scores["white_box"] * (1 - one * two)
    assert torch.equal(scores["transfer_only"], only)
    alone = masking(given, queries=QUERIES, source=("itself",))
    assert alone["transfer"].isnan().all()


def test_the_harness_grades_every_attack() -> None:
    """A harness that takes nothing for broken: no attack has a say in its own success."""
    given = case(Linear(), Linf(0.05))
    seen = []

    def nothing_counts(adversarial: Tensor) -> dict[str, Tensor]:
        seen.append(given.needs_threat().size(adversarial - given.x))
        return {"robust_accuracy": torch.ones(N)}

    scores = masking(replace(given, grade=nothing_counts), queries=QUERIES, images=40)
    assert len(seen) == 7
    assert all((size[40:] == 0).all() for size in seen), "others are graded unchanged"
    for name in ("clean", "fgsm", "pgd20", "pgd100", "margin", "square", "noise"):
        assert (scores[name][:40] == 1).all(), name


def test_without_a_radius_nothing_can_be_masked() -> None:
    with pytest.raises(NotApplicable, match="eps = 0"):
        masking(case(Linear(), Linf(0.0)))


# --- the verdict on models


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.3), L1(1.0)], ids=str)
def test_honest_gradients_pass_in_every_norm(threat: ThreatModel) -> None:
    assert judged(Linear(), threat) == Verdict("PASS", ())


MASKED = {
    "rounded": (lambda net, x: net((5 * x).round() / 5),
                {"zero-gradient", "large-eps-holds", "black-box-stronger"}),
    "detached": (lambda net, x: net(x.detach()), {"zero-gradient", "large-eps-holds", "black-box-stronger"}),
    "reversed": (lambda net, x: net(Reversed.apply(x)),
                 {"large-eps-holds", "black-box-stronger", "noise-stronger"}),
    "wavy": (wavy, {"black-box-stronger", "large-eps-holds"}),
    "too sure": (lambda net, x: 1e4 * net(x), {"saturated", "margin-stronger"}),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKED)
def test_masked_gradients_are_told(name: str) -> None:
    change, codes = MASKED[name]
    found = judged(Around(change), Linf(0.05))
    assert found.level == ("WARN" if name == "too sure" else "FAIL")
    assert {reason.code for reason in found.reasons} >= codes


def test_another_models_examples_can_tell_it_as_well() -> None:
    given = case(Around(lambda net, x: net(Reversed.apply(x))), Linf(0.05), Linear())
    found = verdict(shares(masking(given, queries=QUERIES)))
    assert "transfer-stronger" in {reason.code for reason in found.reasons}


# --- the verdict on numbers

HONEST = {
    "masked": 0.0, "clean": 0.95, "fgsm": 0.55, "pgd20": 0.5, "pgd100": 0.5, "margin": 0.48, "white_box": 0.47,
    "square": 0.65, "noise": 0.9, "transfer": 0.8, "fgsm_only": 0.01, "pgd20_only": 0.01, "margin_only": 0.03,
    "square_only": 0.0, "noise_only": 0.0, "transfer_only": 0.0, "large_eps": 0.0, "zero_gradient": 0.0,
    "saturated": 0.0, "broken_by_square": 0.0,
}  # fmt: skip


def on(n: int = 100, **changes: float) -> Verdict:
    return verdict({name: Share(value, n) for name, value in {**HONEST, **changes}.items()})


def test_honest_numbers_pass() -> None:
    for n in (25, 100, 1000, 10_000):
        assert on(n) == Verdict("PASS", ())


BROKEN = {
    "FGSM above PGD-20": ({"fgsm": 0.38, "fgsm_only": 0.13}, "FAIL", "steps-weaken"),
    "PGD-20 above PGD-100": ({"pgd20": 0.38, "pgd20_only": 0.13}, "FAIL", "steps-weaken"),
    "noise": ({"noise": 0.3, "noise_only": 0.18}, "FAIL", "noise-stronger"),
    "Square": ({"square": 0.35, "square_only": 0.13}, "FAIL", "black-box-stronger"),
    "another model": ({"transfer": 0.3, "transfer_only": 0.2}, "FAIL", "transfer-stronger"),
    "margin": ({"margin": 0.38, "margin_only": 0.13}, "WARN", "margin-stronger"),
    "some images": ({"masked": 0.14}, "WARN", "masked-images"),
    "large radius": ({"large_eps": 0.09}, "FAIL", "large-eps-holds"),
    "no gradient": ({"zero_gradient": 0.09}, "FAIL", "zero-gradient"),
    "no cross-entropy": ({"saturated": 0.15}, "WARN", "saturated"),
    "AutoAttack's Square": ({"broken_by_square": 0.04}, "WARN", "square-in-autoattack"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_speaks_where_it_is_broken(name: str) -> None:
    changes, level, code = BROKEN[name]
    found = on(**changes)
    assert found.level == level
    assert [(reason.level, reason.code) for reason in found.reasons] == [(level, code)]
    assert found.reasons[0].remedy == REMEDIES[code]
    assert "100 images" in found.reasons[0].evidence
    assert "%" in found.reasons[0].evidence


NEAR = {
    "three images the wrong way": {"square": 0.44, "square_only": 0.03},
    "noise both ways": {"square": 0.41, "square_only": 0.26},
    "a point of a hundred": {"zero_gradient": 0.01, "large_eps": 0.02, "saturated": 0.05},
    "margin by 8 points": {"margin": 0.42, "margin_only": 0.08},
    "FGSM in a few": {"fgsm": 0.46, "fgsm_only": 0.06},
}


@pytest.mark.parametrize("name", NEAR)
def test_nothing_is_said_of_what_chance_makes(name: str) -> None:
    assert on(**NEAR[name]) == Verdict("PASS", ())


def test_the_slack_holds_however_many_images() -> None:
    """One point in favour of Square is significant with 100,000 images, and no matter; three are to be looked at."""
    assert on(100_000, square=0.46, square_only=0.02) == Verdict("PASS", ())
    assert on(100_000, square=0.44, square_only=0.04).level == "WARN"
    assert on(100_000, square=0.36, square_only=0.12).level == "FAIL"


@pytest.mark.parametrize(("lead", "level"), [(0.06, "WARN"), (0.12, "FAIL")])
def test_a_lead_is_judged_alike_from_100_images_on(lead: float, level: str) -> None:
    """6 points of 100 images were once a PASS, of 250 a FAIL."""
    for n in (100, 250, 500, 10_000):
        found = on(n, square=0.47 - lead, square_only=lead)
        assert [(r.level, r.code) for r in found.reasons] == [(level, "black-box-stronger")], n


def test_only_a_large_lead_of_an_order_that_may_fail_is_a_fail() -> None:
    assert on(margin=0.2, margin_only=0.3).level == "WARN"
    assert on(pgd20=0.44, pgd20_only=0.06).level == "WARN"


def test_a_rule_accuses_honest_models_at_most_once_in_a_thousand() -> None:
    """Of every number of images on which two equal attacks disagree, all ways they may do so."""
    for disagree in range(1, 80):
        wrongly = sum(
            comb(disagree, many) / 2**disagree
            for many in range(disagree + 1)
            if outnumbers(many, disagree - many)
        )
        assert wrongly < ALPHA
    for limit in LIMITS:
        for n in (20, 100, 500):
            chance = sum(
                comb(n, k) * limit.most**k * (1 - limit.most) ** (n - k)
                for k in range(n + 1)
                if [r for r in on(n, **{limit.measure: k / n}).reasons if r.code == limit.code]
            )
            assert chance < ALPHA, limit.code


def test_the_tests_are_scipys() -> None:
    for many in range(30):
        for few in range(30):
            exact = many + few and binomtest(many, many + few, 0.5, alternative="greater").pvalue
            for error in (ALPHA, DOUBT):
                assert outnumbers(many, few, error) == (many > few and exact < error)


def test_what_was_not_measured_is_not_judged() -> None:
    assert on(transfer=float("nan"), transfer_only=float("nan")) == Verdict("PASS", ())
    without = {name: Share(value, 100) for name, value in HONEST.items() if "square" not in name}
    assert verdict(without) == Verdict("PASS", ())


@pytest.mark.parametrize("n", [0, ENOUGH - 1])
def test_too_few_images_are_no_pass(n: int) -> None:
    found = on(n) if n else verdict({})
    assert found.level == "WARN"
    assert [(r.code, r.evidence) for r in found.reasons] == [("too-few-images", f"{n} images")]


def test_images_that_were_wrong_from_the_start_say_nothing() -> None:
    """A model that is always wrong has nothing to mask, and 100 images do not make it robust."""
    nothing = dict.fromkeys(HONEST, 0.0)
    found = on(**nothing)
    assert [(r.level, r.code, r.evidence) for r in found.reasons] == [
        ("WARN", "too-few-images", "0 of 100 images are classified correctly")
    ]
    assert on(**{**nothing, "clean": (ENOUGH - 1) / 100}).level == "WARN"
    assert on(**{**nothing, "clean": ENOUGH / 100}).level == "PASS"


def held(white: float, square: float) -> Verdict:
    """A model that is broken but for a few images."""
    low = dict.fromkeys(("fgsm", "pgd20", "pgd100", "margin", "white_box"), white)
    return on(
        **low, square=square, square_only=max(0.0, white - square), margin_only=0.0, masked=0.0
    )


def test_few_images_that_hold_and_that_a_weaker_attack_breaks_are_no_pass() -> None:
    """9 of 100 hold against PGD and none against Square: once a PASS."""
    assert [(r.level, r.code) for r in held(0.09, 0.0).reasons] == [("WARN", "black-box-stronger")]
    (few,) = held(0.04, 0.0).reasons
    assert (few.level, few.code) == ("WARN", "too-few-images")
    assert few.evidence.startswith(
        "Square leaves 0.0%, PGD-100 with both losses 4.0% of 100 images"
    )
    # honest models of which no image is left
    assert held(0.04, 0.04) == held(0.0, 0.2) == held(0.02, 0.0) == Verdict("PASS", ())


def test_a_model_that_is_always_wrong_is_no_pass() -> None:
    wrong = Around(lambda net, x: -net(x))
    given = case(wrong, Linf(0.05))
    given = replace(given, y=predict(Linear(), given.x))
    given = replace(given, grade=partial(grade, wrong, given.x, given.y, Linf(0.05)))
    found = verdict(shares(masking(given, queries=QUERIES)))
    assert [reason.code for reason in found.reasons] == ["too-few-images"]


@pytest.mark.parametrize(("value", "n", "warns"), [
    (0.0, 1000, False), (0.002, 1000, False), (0.005, 200, False), (0.02, 1000, True), (0.034, 500, True),
])  # fmt: skip
def test_autoattacks_own_flag_is_told(value: float, n: int, warns: bool) -> None:
    """Square broke what the gradients of AutoAttack had left: of one image of 200 nothing is said."""
    facts = {
        "dataset": "digits", "model": "mlp", "trainer": "t", "seed": 0, "threat": "Linf 0.1", "metric": "auto_attack",
        "measure": "broken_by_square", "at": float("nan"), "value": value, "n": n, "headline": False, "params": "",
        "label": "AutoAttack", "note": "",
    }  # fmt: skip
    found = health.lines(pd.DataFrame([facts], columns=list(COLUMNS)))
    assert [(line.check, line.level, line.code) for line in found] == [
        ("attacks", "WARN", "square-in-autoattack")
    ] * warns


def test_a_code_is_told_once_and_the_worst_level_counts() -> None:
    found = on(fgsm=0.28, fgsm_only=0.13, pgd20=0.4, pgd20_only=0.1, saturated=0.5)
    assert [reason.code for reason in found.reasons] == ["steps-weaken", "saturated"]
    assert found.reasons[0].evidence == "FGSM leaves 28.0%, PGD-20 40.0% of 100 images"
    assert found.level == "FAIL"
    assert isinstance(found.reasons[0], Reason)
    assert worst(["PASS", "WARN"]) == "WARN"
    assert worst([]) == "PASS"


def test_every_rule_has_a_case_here() -> None:
    codes = {code for _, _, code in BROKEN.values()} | {"too-few-images"}
    assert codes == {rule.code for rule in (*ORDERS, *LIMITS)} | {"too-few-images"} == set(REMEDIES)
