"""Controls: maps that know nothing of the model, or no more than a model's own maps do. No torch.

Beside a cell of a metric of maps the plan sets cells with these maps, of the same metric under the same settings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from benchmark.plan import Part
    from metrics.threat import ThreatModel

Control = Literal["random", "edge", "blurred"]
CONTROLS: tuple[Control, ...] = get_args(Control)
"""Maps without a reason, Sobel's edges of the image, and a model's own maps behind a Gaussian."""

_BLURRED = "blurred_"
_OF_NO_MODEL: dict[str, Control] = {"random": "random", "sobel": "edge"}


def control(attribution: str) -> str:
    """The control that an attribution is; "" for a map of the model's own."""
    return "blurred" if attribution.startswith(_BLURRED) else _OF_NO_MODEL.get(attribution, "")


def attributions(own: str) -> dict[Control, str]:
    """The controls of a map by name, as attributions; a control has none."""
    if control(own):
        return {}
    return {"random": "random", "edge": "sobel", "blurred": f"{_BLURRED}{own}"}


def beside(metric: Part, wanted: Collection[Control] = CONTROLS) -> Iterator[Part]:
    """The same metric, all else equal, of the controls of its map.

    Nothing for a metric that has no map or runs its own controls (the setting `controls`), and no map that the metric's
    own type of `attribution` does not name.
    """
    settings = {parameter.name: parameter for parameter in metric.card.parameters}
    if "attribution" not in settings or "controls" in settings:
        return
    maps = settings["attribution"]
    own = dict(metric.settings).get("attribution", maps.default)
    for name, attribution in attributions(str(own)).items():
        if name in wanted and attribution in get_args(maps.type):
            yield metric.changed(attribution=attribution)


def counted(
    metrics: Iterable[tuple[Part, ThreatModel | None]],
) -> dict[tuple[Part, ThreatModel | None], int]:
    """The metrics that are no controls of others of these, each with the number of its controls among them."""
    listed = dict.fromkeys(metrics)
    own = {
        (metric, threat): [each for each in beside(metric) if (each, threat) in listed]
        for metric, threat in listed
    }
    controls = {(each, threat) for (_, threat), found in own.items() for each in found}
    return {each: len(found) for each, found in own.items() if each not in controls}
