"""Third-party models as they are written in suites, checked without torch, before anything is loaded.

    file:PATH@ARCHITECTURE[?mean=0.49,0.48,0.45&std=0.25,0.24,0.26&key=state_dict.0&ignore=deepz_lambda&pad=0&activation=relu]

`mean` and `std` are the normalisation the model was trained with (none: the images go in as they are; "125.3/255" is
a number); `key` leads into the loaded object; `ignore` names parameters and modules of the file that have no meaning
here.
A file whose header names its architecture, as those of `bench train` do, needs no more than

    file:PATH.safetensors[?...]

What such a header says of normalisation and activation holds unless the specification says otherwise (mean=0&std=1:
none).

    file:PATH@PATH.py:FUNCTION[?mean=..&std=..&key=..&ignore=..]

has its network from the user's own file: what the function, called without arguments, gives back. Every weight of it is
replaced by those of the file, which is read as safely as any other; the code is run, as with `python:` below. A file's
header never names code.

    robustbench:cifar10/Linf/Wong2020Fast[?dir=FOLDER]

is a model of RobustBench, its file in the layout of that library under FOLDER, $BENCH_MODELS or the user's cache.

    torchvision:resnet50[?weights=IMAGENET1K_V1]          timm:resnet50.a1_in1k
    torchvision:resnet18?file=PATH[&mean=..&std=..&key=..&ignore=..]          timm:resnet18?file=PATH[...]

are models of these libraries with the libraries' weights and normalisation, or with the weights of a file.

    python:PATH.py:FUNCTION

is what a function without arguments gives back: a module that maps images in [0, 1] to logits. The file is the user's
own and is run as it is, not before the model is loaded.

`sha256=` pins the file of the weights (of a RobustBench model in several files: all of them, with commas between).
`licence=` and `source=` (of a file) are shown in the model's card; neither may hold an "&".
What is not there is downloaded if BENCH_DOWNLOAD=1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from benchmark.models import _header, _installed, _settings, _weights_folder
from benchmark.models._architecture import SpecError, options
from benchmark.models._code_spec import CodeSpec, code, names_code

FORMS = {
    "file": "file:PATH@ARCHITECTURE[?mean=..&std=..&key=..&ignore=..&activation=..&OPTION=..], "
    "with PATH.py:FUNCTION for a network of your own",
    "robustbench": "robustbench:DATASET/THREAT/NAME[?dir=FOLDER]",
    "torchvision": "torchvision:NAME[?weights=..] or torchvision:NAME?file=PATH[&mean=..&std=..]",
    "timm": "timm:NAME or timm:NAME?file=PATH[&mean=..&std=..]",
    "python": "python:PATH.py:FUNCTION",
}

# what RobustBench itself takes from torchvision, with its unsafe loading
_ELSEWHERE = {
    f"imagenet/{threat}/Standard_R50": "torchvision:resnet50?weights=IMAGENET1K_V1"
    for threat in ("Linf", "corruptions")
}


@dataclass(frozen=True)
class FileSpec:
    """A model in a file: where it is, which architecture its weights belong to, and how its images are normalised."""

    text: str
    path: Path
    architecture: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    key: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    sha256: str = ""
    licence: str = ""
    source: str = ""
    activation: str = "relu"
    options: tuple[tuple[str, int], ...] = ()
    code: CodeSpec | None = None
    """What makes the network, where it is none of our architectures."""


@dataclass(frozen=True)
class ZooSpec:
    """A model of RobustBench: its group ("cifar10/Linf"), its name, and the folder of all such models' files."""

    text: str
    group: str
    name: str
    folder: Path
    sha256: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Its file, where RobustBench looks for it."""
        return self.folder / self.group / f"{self.name}.pt"


@dataclass(frozen=True)
class LibrarySpec:
    """A model of timm or torchvision, with the library's weights or (`path`) with those of a file."""

    text: str
    library: Literal["timm", "torchvision"]
    name: str
    weights: str = ""
    path: Path | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    key: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    sha256: str = ""
    licence: str = ""
    source: str = ""


Spec = FileSpec | ZooSpec | LibrarySpec | CodeSpec


def parse(text: str) -> Spec:
    """The spec that a line of a suite means; SpecError says what is wrong with it."""
    kind, colon, body = text.partition(":")
    if not colon or kind not in _PARSERS:
        raise SpecError(
            f"model {text!r}: unknown kind {kind!r}; valid: {'; '.join(FORMS.values())}"
        )
    try:
        return _PARSERS[kind](text, body)
    except SpecError as error:
        raise SpecError(f"model {text!r}: {error}") from None


def origin(text: str) -> dict[str, str]:
    """The licence and the source that a specification states; its file need not be there."""
    pairs = (pair.partition("=") for pair in text.partition("?")[2].split("&"))
    return {name: value for name, _, value in pairs if name in _settings.ORIGIN}


# --- file


def _file(text: str, body: str) -> FileSpec:
    path, architecture, query = _parts(body)
    place = Path(path).expanduser()
    if not path or not (architecture or place.suffix == _header.SUFFIX):
        raise SpecError(f"does not name its file and architecture; valid: {FORMS['file']}")
    _settings.check_file(place)
    told = _header.read(place)
    if names_code(architecture):
        return _file_of_code(text, place, architecture, query, told)
    architecture = architecture or _named(place, told)
    own = dict.fromkeys(_options(architecture), _settings.integer)
    found = _settings.read(query, _FILE_READERS | own, architecture)
    found = _from_header(told, found, _FILE_READERS) | found
    _settings.check_normalisation(found)
    extra = tuple(sorted((name, found.pop(name)) for name in own if name in found))
    return FileSpec(text, place, architecture, options=extra, **found)


def _file_of_code(
    text: str, place: Path, network: str, query: str, told: Mapping[str, str]
) -> FileSpec:
    made_by = code(network, network, FORMS["file"])
    found = _settings.read(query, _OWN_READERS, network)
    found = _from_header(told, found, _OWN_READERS) | found
    _settings.check_normalisation(found)
    return FileSpec(text, place, network, code=made_by, **found)


_OWN_READERS = _settings.NORMALISATION | _settings.WEIGHTS | _settings.ORIGIN
_FILE_READERS = (
    _settings.NORMALISATION | _settings.WEIGHTS | _settings.ACTIVATION | _settings.ORIGIN
)


def _options(architecture: str) -> tuple[str, ...]:
    try:
        return options(architecture)
    except SpecError as error:
        raise SpecError(
            f"{error}; or PATH.py:FUNCTION, which makes a network of your own"
        ) from None


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
        raise SpecError(
            f"{str(place)!r} has no header that names its architecture; valid: {FORMS['file']}"
        )
    return told["architecture"]


def _from_header(
    told: Mapping[str, str], found: Mapping[str, object], readers: Mapping[str, _settings.Reader]
) -> dict[str, Any]:
    """What the header says of settings that the specification does not give."""
    try:
        return {
            name: readers[name](name, told[name])
            for name in ("mean", "std", "activation")
            if name in told and name in readers and name not in found
        }
    except SpecError as error:
        raise SpecError(f"the file's header: {error}") from None


# --- robustbench


def _zoo(text: str, body: str) -> ZooSpec:
    place, _, query = body.partition("?")
    group, _, name = place.rpartition("/")
    check_zoo_name(group, name)
    if place in _ELSEWHERE:
        raise SpecError(f"RobustBench takes this model from torchvision; write {_ELSEWHERE[place]}")
    found = _settings.read(
        query, {"dir": lambda _, text: Path(text), "sha256": _settings.digests}, "robustbench"
    )
    folder = found.pop("dir", None) or _weights_folder.folder()
    spec = ZooSpec(text, group, name, folder.expanduser(), **found)
    several = spec.path.with_name(f"{name}.pt_m0.pt")
    if not (spec.path.is_file() or several.is_file() or _weights_folder.wanted()):
        raise SpecError(
            f"its weights are not in {str(spec.path)!r}; put the file there, or BENCH_DOWNLOAD=1 has bench download it "
            "(dir=FOLDER and $BENCH_MODELS name other folders)"
        )
    return spec


def check_zoo_name(group: str, name: str) -> None:
    """SpecError that names the nearest unless RobustBench has this model."""
    groups = _installed.zoo()
    if group in groups and name in groups[group]:
        return
    if group in groups:
        close = get_close_matches(name, groups[group], 3, 0.5)
        meant = f" (did you mean {' or '.join(close)}?)" if close else ""
        raise SpecError(
            f"{group} has no {name!r}{meant}; `bench show robustbench:{group}` lists its {len(groups[group])}"
        )
    elsewhere = [f"{other}/{name}" for other in groups if name in groups[other]]
    raise SpecError(
        f"does not name data set, threat and model; valid: {FORMS['robustbench']}"
        + (f", here {' or '.join(elsewhere)}" if elsewhere else f", with {', '.join(groups)}")
    )


# --- timm, torchvision


def _timm(text: str, body: str) -> LibrarySpec:
    name, _, query = body.partition("?")
    _check_library_name("timm", name.partition(".")[0])
    return LibrarySpec(text, "timm", name, **_library_settings(query, {}, "timm"))


def _torchvision(text: str, body: str) -> LibrarySpec:
    name, _, query = body.partition("?")
    _check_library_name("torchvision", name)
    own: dict[str, _settings.Reader] = {"weights": lambda _, text: text}
    return LibrarySpec(text, "torchvision", name, **_library_settings(query, own, "torchvision"))


def _check_library_name(library: str, name: str) -> None:
    known = _installed.library(library)
    if name not in known:
        close = get_close_matches(name, known, 3, 0.5)
        meant = f" (did you mean {' or '.join(close)}?)" if close else f"; it has {len(known)}"
        raise SpecError(f"{library} has no model {name!r}{meant}")


def _library_settings(
    query: str, own: Mapping[str, _settings.Reader], library: str
) -> dict[str, Any]:
    of_file = _settings.NORMALISATION | _settings.WEIGHTS | _settings.ORIGIN
    readers = {**own, "file": _settings.existing, **of_file}
    found = _settings.read(query, readers, library)
    _settings.check_normalisation(found)
    if "weights" in found and "file" in found:
        raise SpecError("weights= names the library's weights and file= others; give one of them")
    if path := found.pop("file", None):
        found["path"] = path
    return found


# --- python


def _python(text: str, body: str) -> CodeSpec:
    return code(text, body, FORMS["python"])


_PARSERS: dict[str, Callable[[str, str], Spec]] = {
    "file": _file,
    "robustbench": _zoo,
    "torchvision": _torchvision,
    "timm": _timm,
    "python": _python,
}
