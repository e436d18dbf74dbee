"""Suite files: what to run, as TOML. A list is a grid, but in recipes; relative threats fit every data set."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from benchmark.cards import Kind, cards, nearest
from benchmark.controls import CONTROLS, Control
from benchmark.errors import BenchError
from benchmark.report.tables import columns

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "suites"
NONE = "none"
"""In the place of a trainer's name on the command line."""


class SuiteError(BenchError):
    """A suite that cannot be run; the message names the file, the place, what came and what would be valid."""


class Entry(BaseModel):
    """One trainer or metric of a suite: its name (or "*", or a file's path), its threats, and settings of its own."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    threat: str | list[str] | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that are the method's own."""
        return dict(self.model_extra or {})


class Gallery(BaseModel):
    """The saliency gallery: how many images, which maps."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: Annotated[int, Ge(0)] = 6
    attributions: list[str] = ["gradient"]


class OwnTable(BaseModel):
    """A table with columns of one's own choice: words as benchmark/report/tables/columns.py reads them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: str = ""
    columns: Annotated[list[str], MinLen(1)]


class Suite(BaseModel):
    """A benchmark suite."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")]
    """Also the name of the folder under results/."""
    description: str = ""
    dataset: str = "digits"
    seeds: Annotated[list[Annotated[int, Ge(0)]], MinLen(1)] = [0]
    limit: Annotated[int, Ge(1)] | None = None
    """Test images that are used (the first ones); none means all."""
    train_limit: Annotated[int, Ge(1)] | None = None
    """Training images that are used; none means all."""
    split: Literal["test", "validation"] = "test"
    """What is measured on: the test images, or those held out of the training data, for choosing settings."""
    threat: str = "Linf"
    """For every trainer and metric that names none: "Linf" (the data set's own radius), "Linf 8/255", "Linf *0.5"."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """Changes to the data set's recipe, for all trainers."""
    retrain: dict[str, Any] = Field(default_factory=dict)
    """Further changes to the recipe for the classifier that ROAR, KAR and DiffROAR retrain, as in
    `precision = "bfloat16"`."""
    trainer: list[Entry] = []
    metric: Annotated[list[Entry], MinLen(1)]
    model: list[str] = []
    """Models of others, in the forms of benchmark/models/spec.py."""
    controls: list[Control] = list(CONTROLS)
    """What is measured beside every metric of maps, as cells of its own: all, a list, or `false` for none.

    ROAR, KAR and DiffROAR have a setting of this name instead.
    """
    gallery: Gallery = Gallery()
    adversarials: Annotated[int, Ge(0)] = 1000
    """Test images (the first ones) whose adversarial examples every attack keeps in the store, for `bench verify`.

    An attack is a metric with the measure robust_accuracy. Scores do not depend on this number; asking for more
    examples than are there computes the attacks again.
    """

    scale: dict[Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")], dict[str, Any]] = Field(
        default_factory=dict
    )
    """The suite in other sizes: name -> the keys that differ; a table is merged, anything else replaced."""

    # part of a file's name
    tables: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")], OwnTable] = Field(
        default_factory=dict
    )
    """Tables of one's own beside the usual ones: name -> columns. They change what is reported, not what is run."""

    names: dict[str, Annotated[str, MinLen(1)]] = Field(default_factory=dict)
    """What rows are called in the report: a row's name in the tables, or that without its threat -> another one."""

    file: str = Field(default="", exclude=True)
    whole: Suite | None = Field(default=None, exclude=True)
    """What the file asks for, where a command asks for less, for more, or for other seeds; none: just this."""

    @field_validator("controls", mode="before")
    @classmethod
    def _listed(cls, controls: object) -> object:
        if isinstance(controls, bool):
            return list(CONTROLS) if controls else []
        if not isinstance(controls, list):
            raise ValueError(f"valid: false, or a list of {', '.join(CONTROLS)}")
        return controls

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands there twice")
        return seeds


def names() -> list[str]:
    """The suites that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str) -> Suite:
    """The suite of a name, or of a TOML file's path."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        what = f"no suite file {name}" if name.endswith(".toml") else f"no suite {name!r}"
        raise SuiteError(f"{what}{nearest(name, names())} or the path of a .toml file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: not TOML: {error}") from None
    suite = _validated({**content, "file": str(path)})
    for scale in suite.scale:
        scaled(suite, scale)
    return suite


def _validated(content: dict[str, Any], within: str = "") -> Suite:
    """The suite of this content; SuiteError for what is wrong `within` a table of its file."""
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        # a key that is unknown first: it is why another one is missing
        problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        raise SuiteError(f"{content['file']}: {within}{_say(problem)}") from None
    _check_tables(suite)
    return suite


def _check_tables(suite: Suite) -> None:
    """SuiteError for a name that is taken, or a word that chooses no column."""
    own = {Path(entry.name).stem for entry in suite.metric if entry.name.endswith(".py")}
    for name, table in suite.tables.items():
        if name in (*columns.NAMES, *columns.GRIDS):
            taken = ", ".join((*columns.NAMES, *columns.GRIDS))
            raise SuiteError(
                f"{suite.file}: tables.{name}: the name of a usual table; these are taken: {taken}"
            )
        for i, word in enumerate(table.columns):
            try:
                columns.check(word, own)
            except columns.ColumnError as error:
                raise SuiteError(f"{suite.file}: tables.{name}.columns[{i}] = {error}") from None


def _say(problem: Any) -> str:
    """One validation problem in one line."""
    place = _place(problem["loc"])
    if problem["type"] == "extra_forbidden":
        inner: dict[str, type[BaseModel]] = {"gallery": Gallery, "tables": OwnTable}
        fields = inner.get(str(problem["loc"][0]) if "." in place else "", Suite).model_fields
        key, valid = str(problem["loc"][-1]), [name for name in fields if name not in _OURS]
        return f"unknown key {place!r}{misplaced(key) or nearest(key, valid)}"
    if problem["type"] == "missing":
        return f"key {place!r} is missing"
    if place in ("trainer", "metric") and isinstance(problem["input"], dict):
        return f"[{place}] is a table; write [[{place}]], in double brackets, for each of them"
    of_kind = problem["type"] in ("list_type", "string_type")
    key = place.rpartition(".")[2]
    said = _WRITTEN[key] if of_kind and key in _WRITTEN else problem["msg"]
    said = _PLAIN.get(problem["type"], said.removeprefix("Value error, "))
    return f"{place.removesuffix('.[key]')} = {problem['input']!r}: {said}"


def misplaced(key: str) -> str:
    """The end of an error message on an unknown key of a table: where it belongs if it is one of the suite's."""
    if key not in Suite.model_fields or key in _OURS:
        return ""
    return f": {key!r} is a key of the suite; write it above the first [table]"


_OURS = ("file", "whole")
"""Fields of a suite that no file has."""


def _place(loc: Sequence[str | int]) -> str:
    """Where a problem is, as in trainer[0].threat; without the types between which pydantic tried."""
    kinds = ("str", "list[str]")
    parts = [
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if part not in kinds
    ]
    return "".join(parts).removeprefix(".")


_WRITTEN = {
    "threat": "give a norm and a radius, as in 'Linf 8/255'",
    "seeds": "give a list, as in [0, 1, 2]",
    "model": "give a list, as in ['file:weights.safetensors']",
    "trainer": "write [[trainer]] and below it name = 'standard', for each of them",
    "metric": "write [[metric]] and below it name = 'pgd', for each of them",
    "attributions": "give a list, as in ['gradient']",
    "columns": "give a list, as in ['clean_accuracy', 'roar:gradient']",
}
"""How keys are written that got something of another kind."""

_PLAIN = {
    "string_pattern_mismatch": "a name is of letters, digits, _ and - (a suite's and a scale's may have . too)",
    "too_short": "give at least one",
}
"""What else may be wrong, in words that are not of patterns and validation."""


def scaled(suite: Suite, name: str | None) -> Suite:
    """The suite in another of its sizes, called SUITE-NAME; SuiteError if it has none of this name."""
    if name is None:
        return suite
    if name not in suite.scale:
        known = nearest(name, list(suite.scale)) if suite.scale else "; it has one size only"
        raise SuiteError(f"{suite.file}: no scale {name!r}{known}")
    content = suite.model_dump(exclude={"scale"})
    for key, value in suite.scale[name].items():
        merged = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = {**content[key], **value} if merged else value
    own = {"name": f"{suite.name}-{name}", "file": suite.file}
    return _validated({**content, **own}, f"scale.{name}: ")


def changed(
    suite: Suite,
    *,
    dataset: str | None = None,
    models: Sequence[str] = (),
    trainers: Sequence[str] = (),
    metrics: Sequence[str] = (),
    seeds: Sequence[int] = (),
    limit: int | None = None,
    split: str | None = None,
) -> Suite:
    """The suite as the command line changes it; the file's checks hold for the result as well."""
    content = suite.model_dump(exclude={"trainer", "metric"})
    content["trainer"] = _trainers(suite, trainers, models)
    content["metric"] = _chosen(suite.metric, metrics, "metrics")
    content["model"] = [*suite.model, *models]
    content["file"] = suite.file
    given = {"dataset": dataset, "limit": limit, "split": split}
    content |= {name: value for name, value in given.items() if value is not None}
    whole = suite.model_copy(update={"dataset": content["dataset"]})
    return _validated({**content, "seeds": list(seeds) or suite.seeds, "whole": whole})


def _trainers(suite: Suite, names: Sequence[str], models: Sequence[str]) -> list[dict[str, Any]]:
    """The trainers that are chosen; "none" leaves the suite's out, so that only models of others are measured."""
    if NONE not in names:
        return _chosen(suite.trainer, names, "trainers")
    others = [name for name in names if name != NONE]
    if named := [name for name in others if not name.endswith(".py")]:
        raise SuiteError(
            f"--trainer none leaves all trainers of the suite out, --trainer {named[0]} names one; give one of them"
        )
    if not (others or models or suite.model):
        raise SuiteError(
            f"--trainer none: {suite.file} has no models of others, so that nothing is left to measure; "
            "name one with --model"
        )
    return _chosen((), others, "trainers")


def _chosen(entries: Sequence[Entry], names: Sequence[str], kind: Kind) -> list[dict[str, Any]]:
    """Names select: only these, as the suite sets them or with their defaults. Files (.py) are added."""
    files = [name for name in dict.fromkeys(names) if name.endswith(".py")]
    selected = [name for name in dict.fromkeys(names) if name not in files]
    everything = [entry for _, entry in expanded(entries, kind)]
    known = {entry.name for entry in everything}
    kept = [e for e in everything if e.name in selected] if selected else list(entries)
    new = [Entry(name=name) for name in (*selected, *files) if name not in known]
    return [entry.model_dump() for entry in (*kept, *new)]


def expanded(entries: Sequence[Entry], kind: Kind) -> Iterator[tuple[int, Entry]]:
    """The entries with their places in the file; "*" stands for every method that no other entry names."""
    named = {entry.name for entry in entries}
    rest = [name for name in cards(kind) if name not in named]
    for number, entry in enumerate(entries):
        for name in rest if entry.name == "*" else [entry.name]:
            yield number, entry.model_copy(update={"name": name})


def source(name: str) -> str:
    """The file of a suite that comes with the package."""
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
