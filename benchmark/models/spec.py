"""Third-party models as they are written in suites, checked without torch, before anything is loaded.

    file:PATH@ARCHITECTURE[?mean=0.49,0.48,0.45&std=0.25,0.24,0.26&key=state_dict.0&ignore=deepz_lambda&pad=0&activation=relu]

`mean` and `std` are the normalisation the model was trained with (none: the images go in as they are; "125.3/255" is
a number); `key` leads into the loaded object; `ignore` names parameters of the file that have no meaning here.

    file:PATH.safetensors[?...]

is enough for a file whose header names its architecture, as those of `bench train` do. What such a header says of
normalisation and activation holds unless the specification says otherwise (mean=0&std=1: none).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.cards import Card, cards, nearest
from benchmark.errors import BenchError
from benchmark.models import _header

ACTIVATIONS = ("relu", "softplus", "gelu", "silu")
FORM = "file:PATH@ARCHITECTURE[?mean=..&std=..&key=..&ignore=..&activation=..&OPTION=..]"


class SpecError(BenchError):
    """A model is named in a way that cannot work; one line that says what came and what would be valid."""


@dataclass(frozen=True)
class Spec:
    """A model in a file: where it is, which architecture its weights belong to, and how its images are normalised."""

    text: str
    path: Path
    architecture: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    key: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    activation: str = "relu"
    options: tuple[tuple[str, int], ...] = ()


def parse(text: str) -> Spec:
    """The spec that a line of a suite means; SpecError says what is wrong with it."""
    kind, colon, body = text.partition(":")
    if not colon or kind != "file":
        raise SpecError(f"model {text!r}: unknown kind {kind!r}; valid now: {FORM}")
    path, architecture, query = _parts(body)
    place = Path(path).expanduser()
    if not path or not (architecture or place.suffix == _header.SUFFIX):
        raise SpecError(f"model {text!r} does not name its file and architecture; valid: {FORM}")
    try:
        _check_file(place)
        told = _header.read(place)
        architecture = architecture or _named(place, told)
        check_architecture(architecture)
        settings = _settings(query, architecture, told)
    except SpecError as error:
        raise SpecError(f"model {text!r}: {error}") from None
    return Spec(text, place, architecture, **settings)  # type: ignore[arg-type]


def header(
    architecture: str, mean: Sequence[float], std: Sequence[float], activation: str
) -> dict[str, str]:
    """What `safetensors.torch.save_file(..., metadata=...)` writes so that the file names its own architecture."""
    told = {"architecture": architecture, "activation": activation}
    for name, numbers in (("mean", mean), ("std", std)):
        if numbers:
            told[name] = ",".join(repr(float(number)) for number in numbers)
    return told


def _parts(body: str) -> tuple[str, str, str]:
    """Path, architecture (empty: the file's header names it) and settings."""
    # from the right: a path may hold an @, an architecture may not
    path, _, rest = body.rpartition("@")
    architecture, _, query = rest.partition("?")
    if path and not architecture.endswith(_header.SUFFIX):
        return path, architecture, query
    before, _, after = body.rpartition("?")
    return (before, "", after) if before.endswith(_header.SUFFIX) else (body, "", "")


def _named(place: Path, told: Mapping[str, str]) -> str:
    """The architecture that a file names itself."""
    if "architecture" not in told:
        raise SpecError(f"{str(place)!r} has no header that names its architecture; valid: {FORM}")
    return told["architecture"]


def _check_file(place: Path) -> None:
    if not place.is_file():
        what = "is a folder, not a file" if place.is_dir() else "does not exist"
        raise SpecError(f"{str(place)!r} {what}")


def check_architecture(name: str) -> Card:
    """The architecture's card; SpecError that names the nearest unless there is one of this name."""
    if name not in cards("models"):
        raise SpecError(f"unknown architecture {name!r}{nearest(name, list(cards('models')))}")
    return cards("models")[name]


def options(architecture: str) -> tuple[str, ...]:
    """The integer settings an architecture takes beside those common to all."""
    names = (parameter.name for parameter in check_architecture(architecture).parameters)
    return tuple(name for name in names if name != "activation")


def check_options(architecture: str, names: Iterable[str]) -> None:
    """SpecError unless the architecture takes all of these settings."""
    valid = options(architecture)
    for name in names:
        if name not in valid:
            raise SpecError(f"{architecture} has no option {name!r}{nearest(name, valid)}")


def _settings(query: str, architecture: str, told: Mapping[str, str]) -> dict[str, object]:
    """The part after the question mark, as fields of Spec, and what only the header says."""
    found: dict[str, object] = {}
    extra: dict[str, int] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise SpecError(f"setting {pair!r} has no value; write it as NAME=VALUE")
        if name in found or name in extra:
            raise SpecError(f"setting {name!r} stands there twice")
        if name in _READERS:
            found[name] = _READERS[name](value)
        elif name in options(architecture):
            extra[name] = _integer(name, value)
        else:
            valid = (*_READERS, *options(architecture))
            raise SpecError(f"{architecture} has no setting {name!r}; valid: {', '.join(valid)}")
    found = _from_header(told, found) | found
    _check_normalisation(found)
    return found | {"options": tuple(sorted(extra.items()))}


def _from_header(told: Mapping[str, str], found: Mapping[str, object]) -> dict[str, object]:
    """What the header says of settings that the specification does not give."""
    try:
        return {
            name: _READERS[name](told[name])
            for name in ("mean", "std", "activation")
            if name in told and name not in found
        }
    except SpecError as error:
        raise SpecError(f"the file's header: {error}") from None


def _check_normalisation(found: dict[str, object]) -> None:
    mean, std = found.get("mean", ()), found.get("std", ())
    assert isinstance(mean, tuple)
    assert isinstance(std, tuple)
    if len(mean) != len(std):
        raise SpecError(
            f"mean has {len(mean)} numbers and std {len(std)}; give both, one number per channel"
        )
    if std and min(std) <= 0:
        raise SpecError(f"std needs positive numbers, got {list(std)}")


def _numbers(value: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in value.split(","))


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    try:
        number = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        number = math.nan
    if not math.isfinite(number):
        raise SpecError(
            f"{text!r} is not a number; valid: 0.4914 or 125.3/255, with commas between channels"
        )
    return number


def _integer(name: str, text: str) -> int:
    if not text.isdecimal():
        raise SpecError(f"{name} needs a whole number, got {text!r}")
    return int(text)


def _activation(text: str) -> str:
    if text not in ACTIVATIONS:
        raise SpecError(f"unknown activation {text!r}; valid: {', '.join(ACTIVATIONS)}")
    return text


_READERS: dict[str, Callable[[str], object]] = {
    "mean": _numbers,
    "std": _numbers,
    "key": lambda value: tuple(value.split(".")),
    "ignore": lambda value: tuple(value.split(",")),
    "activation": _activation,
}
