"""The half of `quantus_table.py` that runs where Quantus is installed: `PYTHON quantus_half.py FOLDER`.

FOLDER holds what `quantus_ours.py` wrote: images, maps, masks, recorded noise, and the weights of the network and of
its randomised copies. Writes FOLDER/theirs.json: for each metric what Quantus gives with settings that make its
definition ours, and what it gives as it is shipped; or its seconds; or the error where it fails.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import quantus
import torch
from quantus.functions.perturb_func import noisy_linear_imputation
from quantus.functions.similarity_func import correlation_spearman, distance_euclidean
from quantus.helpers.model.pytorch_model import PyTorchModel

from benchmark.models.base import build

Array = Any
"""A numpy array."""
QUIET = {"disable_warnings": True, "display_progressbar": False}


class Given:
    """What the other half wrote."""

    def __init__(self, folder: Path) -> None:
        self.facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self.arrays = dict(np.load(folder / "arrays.npz"))
        self.weights = torch.load(folder / "weights.pt", weights_only=True)

    def __getattr__(self, name: str) -> Array:
        return self.arrays[name].copy()  # some metrics write into what they are given

    @cached_property
    def model(self) -> torch.nn.Module:
        """The network in eval mode."""
        return self.with_weights(self.weights["trained"])

    def with_weights(self, state: dict[str, torch.Tensor]) -> torch.nn.Module:
        """The network with other weights."""
        channels = self.facts["model"]["channels"]
        model = build(**self.facts["model"], mean=(0.5,) * channels, std=(0.5,) * channels, seed=0)
        model.load_state_dict(state)
        return model.eval()

    def __call__(self, metric: Any, a: Array | None = None, **more: Any) -> Array:
        """A metric on all images at once, for the predicted class."""
        settings = {"batch_size": len(self.x), "channel_first": True, "y_batch": self.predicted}
        found = metric(model=self.model, x_batch=self.x, a_batch=a, **settings | more)
        return np.array(found, float)


def gradient(model: torch.nn.Module, inputs: Array, targets: Array, **_: Any) -> Array:
    """Gradient of the logit, (n, C, H, W)."""
    x = torch.as_tensor(inputs, dtype=torch.float32).requires_grad_()
    chosen = model(x).gather(1, torch.as_tensor(targets)[:, None]).sum()
    return torch.autograd.grad(chosen, x)[0].numpy()


def absolute(model: torch.nn.Module, inputs: Array, targets: Array, **_: Any) -> Array:
    """|gradient| summed over channels, (n, 1, H, W)."""
    return np.abs(gradient(model, inputs, targets)).sum(1, keepdims=True)


def signed(model: torch.nn.Module, inputs: Array, targets: Array, **_: Any) -> Array:
    """The gradient summed over channels, (n, 1, H, W)."""
    return gradient(model, inputs, targets).astype(np.float64).sum(1, keepdims=True)


def in_turn(images: Array) -> Callable[..., Array]:
    """A perturbation for Quantus that gives the images (n, samples, C, H, W) of one sample after the other."""
    calls: Iterator[Array] = iter(np.moveaxis(images, 1, 0))
    return lambda arr, **_: next(calls).reshape(arr.shape)


def sparseness(c: Given) -> Array:
    return c(quantus.Sparseness(normalise=False, **QUIET), c.importance)


def complexity(c: Given) -> Array:
    entropy = c(quantus.Complexity(normalise=False, **QUIET), c.importance)
    return entropy / np.log(c.importance[0].size)


def effective_complexity(c: Given) -> Array:
    """The values that count are those down to the one at which 90% of the mass is reached."""
    counts = []
    for i, values in enumerate(c.importance.astype(float)):
        ordered = np.sort(values.ravel())[::-1]
        last = np.searchsorted(np.cumsum(ordered), 0.9 * ordered.sum() * (1 - 1e-9))
        eps = (ordered[last] + ordered[last + 1]) / 2
        metric = quantus.EffectiveComplexity(eps=eps, normalise=False, **QUIET)
        part = slice(i, i + 1)
        found = metric(
            model=c.model, x_batch=c.x[part], y_batch=c.predicted[part], a_batch=values[None]
        )
        counts.append(found[0] / values.size)
    return np.array(counts)


def localised(metric: Any) -> Callable[[Given], Array]:
    return lambda c: c(metric(normalise=False, **QUIET), c.importance, s_batch=c.mask)


def top_k_intersection(c: Given) -> Array:
    """k is the size of the mask."""
    found = []
    for i, mask in enumerate(c.mask):
        metric = quantus.TopKIntersection(k=int(mask.sum()), normalise=False, **QUIET)
        part = slice(i, i + 1)
        found += metric(
            model=c.model, x_batch=c.x[part], y_batch=c.predicted[part],
            a_batch=c.importance[part], s_batch=mask[None],
        )  # fmt: skip
    return np.array(found, float)


def flipped(c: Given, importance: Array, fill: Array) -> Array:
    """Probabilities after each step, (n, steps); pixels become the colour `fill` (C,)."""
    n, pixels = len(c.x), c.x[0, 0].size
    colours = np.repeat(fill, pixels)

    def replace(arr: Array, indices: Array, **_: Any) -> Array:
        arr = arr.copy()
        arr[np.arange(n)[:, None], indices] = colours[indices]
        return arr

    metric = quantus.PixelFlipping(
        features_in_step=c.facts["features"], normalise=False, perturb_func=replace, **QUIET
    )
    every = c.x[0].size // c.facts["steps"] // c.facts["features"]
    return c(metric, importance, softmax=True)[:, every - 1 :: every]


def deletion(c: Given) -> Array:
    return flipped(c, c.importance, np.zeros(c.x.shape[1]))


def pixel_flipping(c: Given) -> Array:
    # the reversed order as ranks, since Quantus refuses maps that are negative everywhere
    last = np.argsort(np.argsort(-c.importance.reshape(len(c.x), -1), 1), 1)
    orders = (c.importance, last.reshape(c.importance.shape).astype(float))
    return np.concatenate([flipped(c, order, c.mean) for order in orders], 1)


def selectivity(c: Given) -> Array:
    """Patches of one pixel; the curve at our steps."""
    metric = quantus.Selectivity(patch_size=1, normalise=False, perturb_baseline=0.0, **QUIET)
    curve = c(metric, c.importance, softmax=True)
    pixels = c.x[0, 0].size // c.facts["steps"]
    return curve[:, pixels - 1 :: pixels]


def imputed(c: Given, i: int, indices: Array) -> Array:
    """Quantus's imputation with our noise, cut to [0, 1]."""
    linear = noisy_linear_imputation(c.x[i].astype(float), indices, noise=0)
    noisy = linear.reshape(c.x[i].shape[0], -1)
    noisy[:, indices] += c.road_noise[i].reshape(len(noisy), -1)[:, indices]
    return noisy.clip(0, 1).reshape(c.x[i].shape)


def road(c: Given) -> Array:
    """Image by image, since Quantus gives the mean over its first batch."""
    found = []
    for i in range(len(c.x)):
        metric = quantus.ROAD(
            percentages=c.facts["percents"], normalise=False, **QUIET,
            perturb_func=lambda arr, indices, i=i, **_: imputed(c, i, indices),
        )  # fmt: skip
        part = slice(i, i + 1)
        scores = metric(
            model=c.model, x_batch=c.x[part], y_batch=c.y[part], a_batch=c.importance[part]
        )
        found.append([scores[p] for p in c.facts["percents"]])
    return np.array(found, float)


def road_imputation(c: Given) -> Array:
    """Half of the pixels, imputed by Quantus's function alone."""
    half = c.x[0, 0].size // 2
    orders = np.argsort(-c.importance.reshape(len(c.x), -1), 1)[:, :half]
    return np.stack([imputed(c, i, order) for i, order in enumerate(orders)]).reshape(len(c.x), -1)


def infidelity(c: Given) -> Array:
    samples = c.removed.shape[1]
    metric = quantus.Infidelity(
        perturb_func=in_turn(c.x[:, None] - c.removed), perturb_patch_sizes=[c.x.shape[-1]],
        n_perturb_samples=samples, **QUIET,
    )  # fmt: skip
    return c(metric, c.maps, softmax=False)


def max_sensitivity(c: Given) -> Array:
    noisy = c.x[:, None] + c.uniform
    metric = quantus.MaxSensitivity(nr_samples=noisy.shape[1], perturb_func=in_turn(noisy), **QUIET)
    return c(metric, c.maps, explain_func=gradient)


def local_lipschitz(c: Given) -> Array:
    """Of maps of length 1."""

    def unit(a: Array) -> Array:
        return a / np.sqrt((a.astype(float) ** 2).sum((1, 2, 3), keepdims=True))

    noisy = c.x[:, None] + c.moves
    metric = quantus.LocalLipschitzEstimate(
        nr_samples=noisy.shape[1], perturb_func=in_turn(noisy), normalise=True, normalise_func=unit,
        norm_numerator=distance_euclidean, norm_denominator=distance_euclidean, **QUIET,
    )  # fmt: skip
    return c(metric, c.maps, explain_func=gradient)


def random_logit(c: Given) -> Array:
    """Against the class that we drew."""
    metric = quantus.RandomLogit(
        similarity_func=correlation_spearman, num_classes=c.facts["model"]["classes"],
        normalise=False, **QUIET,
    )  # fmt: skip
    other = c.other
    explain = lambda model, inputs, targets, **_: absolute(model, inputs, other)  # noqa: E731
    return c(metric, c.importance, explain_func=explain)


def with_our_weights(c: Given, metric: Any, a: Array, explain: Any) -> Any:
    """A metric of the randomisation family, on our randomised copies of the network."""
    copies = [(f"stage {i}", c.with_weights(state)) for i, state in enumerate(c.weights["stages"])]
    theirs = PyTorchModel.get_random_layer_generator
    PyTorchModel.get_random_layer_generator = lambda self, **_: iter(copies)
    try:
        return metric(
            model=c.model, x_batch=c.x, y_batch=c.predicted, a_batch=a, explain_func=explain,
            softmax=True, batch_size=len(c.x),
        )  # fmt: skip
    finally:
        PyTorchModel.get_random_layer_generator = theirs


def mprt(c: Given) -> Array:
    metric = quantus.MPRT(similarity_func=correlation_spearman, normalise=False, **QUIET)
    found = with_our_weights(c, metric, c.importance, absolute)
    return np.mean([values for name, values in found.items() if name != "original"], axis=0)


def efficient_mprt(c: Given) -> Array:
    metric = quantus.EfficientMPRT(
        complexity_func_kwargs={"n_bins": 100}, normalise=False, abs=False, **QUIET
    )
    return np.array(with_our_weights(c, metric, c.signed, signed), float)


def shipped(metric: Callable[..., Any], **settings: Any) -> Callable[[Given], Array]:
    """A metric with its own defaults, on signed maps: the gradient summed over channels."""
    return lambda c: c(
        metric(**QUIET, **settings), c.signed.astype(np.float32), explain_func=signed
    )


def shipped_on_sizes(metric: Callable[..., Any]) -> Callable[[Given], Array]:
    """The same, on the absolute map that ours is given."""
    return lambda c: c(metric(**QUIET), c.importance, s_batch=c.mask)


def road_as_shipped(c: Given) -> Array:
    metric = quantus.ROAD(percentages=c.facts["percents"], **QUIET)
    scores = metric(model=c.model, x_batch=c.x, y_batch=c.y, a_batch=c.importance)
    return np.array(list(scores.values()))


def random_logit_as_shipped(c: Given) -> Array:
    classes = c.facts["model"]["classes"]
    return shipped(quantus.RandomLogit, num_classes=classes)(c)


# ours -> (Quantus by our definition, Quantus as shipped)
METRICS: dict[str, tuple[Callable[[Given], Array], Callable[[Given], Array]]] = {
    "gini": (sparseness, shipped_on_sizes(quantus.Sparseness)),
    "entropy": (complexity, shipped_on_sizes(quantus.Complexity)),
    "effective_complexity": (effective_complexity, shipped_on_sizes(quantus.EffectiveComplexity)),
    "pointing_game": (localised(quantus.PointingGame), shipped_on_sizes(quantus.PointingGame)),
    "relevance_mass": (
        localised(quantus.RelevanceMassAccuracy), shipped_on_sizes(quantus.RelevanceMassAccuracy)
    ),
    "relevance_mass (attribution localisation)": (
        localised(quantus.AttributionLocalisation), shipped_on_sizes(quantus.AttributionLocalisation)
    ),
    "relevance_rank": (
        localised(quantus.RelevanceRankAccuracy), shipped_on_sizes(quantus.RelevanceRankAccuracy)
    ),
    "relevance_rank (top-k intersection)": (
        top_k_intersection, shipped_on_sizes(quantus.TopKIntersection)
    ),
    "localisation_auc": (localised(quantus.AUC), shipped_on_sizes(quantus.AUC)),
    "deletion": (deletion, shipped_on_sizes(quantus.PixelFlipping)),
    "deletion (selectivity)": (selectivity, shipped_on_sizes(quantus.Selectivity)),
    "pixel_flipping": (pixel_flipping, shipped_on_sizes(quantus.PixelFlipping)),
    "road": (road, road_as_shipped),
    "road (imputation)": (road_imputation, road_as_shipped),
    "infidelity": (infidelity, shipped(quantus.Infidelity)),
    "sensitivity": (max_sensitivity, shipped(quantus.MaxSensitivity)),
    "local_lipschitz": (local_lipschitz, shipped(quantus.LocalLipschitzEstimate)),
    "random_logit": (random_logit, random_logit_as_shipped),
    "cascading_randomisation": (
        mprt, shipped(quantus.MPRT, return_average_correlation=True)
    ),
    "emprt": (efficient_mprt, shipped(quantus.EfficientMPRT)),
}  # fmt: skip


EDGES = {
    "gini": quantus.Sparseness, "entropy": quantus.Complexity, "effective_complexity": quantus.EffectiveComplexity,
    "pointing_game": quantus.PointingGame, "relevance_mass": quantus.RelevanceMassAccuracy,
    "relevance_rank": quantus.RelevanceRankAccuracy, "localisation_auc": quantus.AUC,
}  # fmt: skip


def on_edge_maps(c: Given) -> dict[str, dict[str, Any]]:
    """What metrics give for one image and maps (1, 1, H, W) without an order, or that are no numbers."""

    def measured(metric: Any, a: Array) -> Callable[[Given], Array]:
        part = {"x_batch": c.x[:1], "y_batch": c.predicted[:1], "s_batch": c.edge_mask}
        return lambda _: np.array(metric(**QUIET)(model=c.model, a_batch=a, **part), float)

    return {
        name: {kind: attempt(measured(metric, c.arrays[kind].copy()), c) for kind in KINDS}
        for name, metric in EDGES.items()
    }


KINDS = ("constant", "zero", "not a number")


def findings(c: Given) -> list[str]:
    """Each a sentence with the figures that show it."""
    n, found = len(c.x), []
    some = c.facts["percents"][0]
    if c.x.shape[1] == 1:
        metric = quantus.ROAD(percentages=[some], **QUIET)
        given = {"model": c.model, "x_batch": c.x, "y_batch": c.y, "a_batch": c.importance}
        whole, parts = (metric(**given, batch_size=size)[some] for size in (n, 10))
        found.append(
            f"ROAD at {some}%: {whole:.3f} in one batch of {n}, {parts:.3f} in batches of 10"
        )
    average = c(
        quantus.MPRT(return_average_correlation=True, **QUIET), c.signed, explain_func=signed
    ).mean()
    layers = quantus.MPRT(**QUIET)(
        model=c.model, x_batch=c.x, y_batch=c.predicted, a_batch=c.signed, explain_func=signed
    )
    without = np.mean([values for name, values in layers.items() if name != "original"])
    found.append(
        f"MPRT's average correlation: {average:.3f}; without the trained model: {without:.3f}"
    )
    mask = c.mask
    mask[0] = False
    hit = c(quantus.PointingGame(**QUIET), c.importance, s_batch=mask)[0]
    found.append(f"PointingGame of an image with an empty mask: {hit:g}")
    both = np.concatenate([c.importance[:1], 1e6 * c.importance[:1]])
    counts = [
        quantus.EffectiveComplexity(**QUIET)(
            model=c.model, x_batch=c.x[[0] * len(a)], y_batch=c.predicted[[0] * len(a)], a_batch=a
        )[0]
        for a in (both[:1], both)
    ]
    found.append(
        f"EffectiveComplexity of one map alone: {counts[0]}; beside a map a million times as large: {counts[1]}"
    )
    auc = attempt(
        lambda c: c(quantus.PixelFlipping(return_auc_per_sample=True, **QUIET), c.importance), c
    )
    found.append(
        f"PixelFlipping with return_auc_per_sample, numpy {np.__version__}: {auc.get('error', 'works')}"
    )
    return found


def attempt(measure: Callable[[Given], Array], c: Given) -> dict[str, Any]:
    """What it gives and how long it takes, or why it fails."""
    try:
        values = measure(c)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"values": values.tolist()}


def seconds(measure: Callable[[Given], Array], c: Given) -> dict[str, Any]:
    """Processor time, with that of predicting the class and making the map; the least of two runs, or those in 5 s."""
    found: list[float] = []
    try:
        while len(found) < 2 and sum(found) < 5:
            began = time.process_time()
            with torch.no_grad():
                predicted = c.model(torch.as_tensor(c.x)).argmax(1)
            gradient(c.model, c.x, predicted)
            measure(c)
            found.append(time.process_time() - began)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"seconds": min(found)}


def main(folder: Path) -> None:
    """Measure what the facts ask for."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    c, found = Given(folder), {}
    for name in c.facts["metrics"]:
        by_ours, as_shipped = METRICS[name]
        if c.facts["timed"]:
            found[name] = seconds(by_ours, c)
        else:
            found[name] = attempt(by_ours, c) | {"shipped": attempt(as_shipped, c)}
    versions = {"quantus": quantus.__version__, "numpy": np.__version__, "torch": torch.__version__}
    more = {} if c.facts["timed"] else {"edges": on_edge_maps(c), "findings": findings(c)}
    (folder / "theirs.json").write_text(
        json.dumps({"found": found, "versions": versions, **more}), encoding="utf-8"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
