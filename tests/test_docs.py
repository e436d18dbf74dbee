"""What the documents say is so: the README's table is a run's, the examples work, the commands exist."""

import json
import re
import shlex
import shutil
import textwrap
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.main import get_command

from benchmark.cards import card
from benchmark.cli import app
from benchmark.datasets import folder
from benchmark.datasets.defaults import defaults
from benchmark.datasets.load import load
from benchmark.measuring.networks import untrained
from benchmark.measuring.place import dataset
from benchmark.models import _header, spec
from benchmark.plan import DataSpec
from benchmark.planner import plan, threat
from benchmark.report.embed import with_tables
from benchmark.suite import Entry, Gallery, Suite, read, scaled
from metrics.case import predict
from metrics.threat import NORMS
from trainers.base import Images
from trainers.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = [
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if re.search("<!-- (table|order): ", page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_a_page_are_those_of_the_reference_runs(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert with_tables(text, ROOT) == text


def test_the_plots_of_the_readme_are_there():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize(
    "page",
    [p.relative_to(ROOT).as_posix() for p in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))],
)
def test_every_command_of_a_page_exists(page):
    commands = get_command(app).commands
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    words = [shlex.split(part, comments=True) for line in lines for part in line.split(";")]
    found = [line for line in words if line and line[0] == "bench"]
    assert len(found) > 8 or page != "README.md"
    for line in found:
        options = {name for parameter in commands[line[1]].params for name in parameter.opts}
        assert {word for word in line if word.startswith("-")} <= options, line


@pytest.mark.parametrize(("page", "name"), [("README.md", "mine"), ("CONTRIBUTING.md", "smooth")])
def test_the_example_trainers_train(tmp_path, page, name):
    text = (ROOT / page).read_text(encoding="utf-8")
    (code,) = (
        c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if f"def {name}(" in c
    )
    (tmp_path / f"{name}.py").write_text(code)
    assert len(code.splitlines()) <= 40
    data = dataset(DataSpec("digits", 400, 50), None)
    splits = (Images(s.x, s.y, s.ids) for s in (data.train, data.validation))
    recipe = Recipe("mlp", epochs=8, lr=1e-2)
    trainer = card("trainers", str(tmp_path / f"{name}.py")).load()
    model = trainer(
        untrained(data, "digits", recipe, 0), *splits, recipe=recipe, threat=None, seed=0
    ).model
    with torch.no_grad():
        assert (predict(model, data.test.x) == data.test.y).float().mean() > 0.7


def tables(page: str) -> dict[str, list[list[str]]]:
    """The tables of a page by the heading above them: rows of cells, without the head."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(heading, []).append(cells)
    return {heading: rows[2:] for heading, rows in found.items()}


def test_the_keys_of_a_suite_are_in_its_page_with_their_defaults():
    found = tables("docs/suites.md")
    written = {
        key.strip("`[]").removesuffix(".NAME"): default for key, _, default, _ in found["Keys"]
    }
    usual = Suite(name="x", metric=[Entry(name="gini")]).model_dump(exclude={"whole"})
    del usual["gallery"]  # it has a table of its own
    assert set(written) == {*usual, "gallery"}
    assert_defaults(written, usual, of=("name", "metric", "limit", "train_limit"))
    gallery = {key.strip("`"): default for key, _, default, _ in found["The gallery"]}
    assert_defaults(gallery, Gallery().model_dump())
    entry = {key.strip("`"): default for key, _, default, _ in found["Trainers and metrics"]}
    assert_defaults(entry, Entry(name="gini").model_dump(), of=("name", "threat"))


def assert_defaults(written: dict[str, str], usual: dict[str, object], of: tuple[str, ...] = ()):
    """What stands in a table are the defaults in the code; `of` are keys without one."""
    assert set(usual) <= set(written)
    for key, value in usual.items():
        assert written[key] == ("" if key in of else f"`{json.dumps(value)}`"), key


def test_the_threats_and_suites_of_the_page_of_suites_are_as_it_says(tmp_path):
    page = (ROOT / "docs/suites.md").read_text(encoding="utf-8")
    digits = defaults("digits").threats
    means = {
        row[0].strip("`"): threat(row[0].strip("`"), digits)
        for row in tables("docs/suites.md")["Threats"]
    }
    assert {level.norm for level in means.values()} == set(NORMS)
    assert means["Linf *0.5"] == threat("Linf", digits).scaled(0.5)
    whole, scale = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.toml").write_text(whole)
    mine = read(str(tmp_path / "mine.toml"))
    counted = Counter(training.trainer.card.name for training in plan(mine).trainings)
    assert counted == {"standard": 2, "trades": 2 * 2 * 2}
    assert plan(scaled(mine, "small")).data.limit == 50
    (tmp_path / "mine.toml").write_text(whole.partition("[scale.small]")[0] + scale)
    small = scaled(read(str(tmp_path / "mine.toml")), "small")
    assert (small.name, small.recipe, len(small.metric)) == ("mine-small", {"epochs": 2}, 2)


def test_the_tree_of_pictures_of_the_page_loads(tmp_path):
    page = (ROOT / "docs/suites.md").read_text(encoding="utf-8")
    for path in re.findall(r"^pictures/\S+", page, re.MULTILINE):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / path)
    shutil.copy(tmp_path / "pictures/train/cat/1.png", tmp_path / "pictures/train/cat/5.png")
    data = load(f"folder:{tmp_path}/pictures")
    assert data.classes == ("cat", "dog")
    assert data.shape == (3, 32, 32)
    named = (
        re.search(r"Pictures \((.*?)\)", page)[1]
        .lower()
        .replace("tiff", "tiff tif")
        .replace("jpeg", "jpeg jpg")
    )
    assert {f".{word}" for word in re.findall(r"\w+", named)} == folder._SUFFIXES


FORMS = [re.sub("`", "", row[0]) for row in tables("docs/models.md")["Forms"]]


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A folder with the files that the page of models names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_MODELS", str(tmp_path / "models"))
    (tmp_path / "theirs.py").write_text("class Net: ...\ndef build(): ...\n")
    zoo = tmp_path / "models/cifar10/Linf/Wong2020Fast.pt"
    zoo.parent.mkdir(parents=True)
    for path in (tmp_path / "theirs.pt", zoo):
        path.touch()
    told = _header.header("resnet20", (0.5,), (0.5,), "relu")
    save_file({"x": torch.zeros(1)}, tmp_path / "trades.safetensors", metadata=told)


@pytest.mark.usefixtures("theirs")
def test_the_forms_of_the_page_of_models_are_read():
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    assert {text.partition(":")[0] for text in FORMS} == set(spec.FORMS)
    in_commands = re.findall(r"(?:--model '?|^  \")([^\s'\"]+)", page, re.MULTILINE)
    inline = re.findall(r"`(\w+:theirs[^`]+)`", page)
    assert len({*in_commands, *inline}) >= 5
    for text in (*FORMS, *in_commands, *inline):
        assert spec.parse(text).text == text


@pytest.mark.usefixtures("theirs")
def test_the_options_of_models_are_in_their_page():
    written: dict[str, set[str]] = {}
    for names, kinds, _ in tables("docs/models.md")["Options"]:
        for kind in re.findall(r"\w+(?=:)", kinds):
            written.setdefault(kind, set()).update(re.findall(r"\w+", names))
    bare = {text.partition("?")[0] for text in FORMS if not text.startswith("python:")}
    taken: dict[str, set[str]] = {}
    for text in bare:
        with pytest.raises(spec.SpecError, match="has no setting 'nonsense'") as caught:
            spec.parse(f"{text}?nonsense=1")
        valid = str(caught.value).rpartition("; valid: ")[2].split(", ")
        taken.setdefault(text.partition(":")[0], set()).update(valid)
    taken["file"] -= set(spec.options("resnet20"))  # of the architecture, which both files name
    assert written == taken


def test_the_variables_of_the_environment_are_in_the_pages():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    used = {
        name
        for path in (ROOT / "benchmark").rglob("*.py")
        for name in re.findall(r"\bBENCH_[A-Z_]+", path.read_text(encoding="utf-8"))
    }
    assert {name for name in used if name not in pages + README} == set()


def test_the_numbers_network_by_network_of_a_page_are_what_its_lines_print(capsys, monkeypatch):
    """Square against PGD-100: without the consensus it breaks 6 to 20 points more, with it at most 4."""
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/papers/gsct2022.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(textwrap.dedent("  " + code.strip()), names)
    printed = capsys.readouterr().out
    more = (names["by_attack"]["PGD-100"] - names["by_attack"]["Square"]).mul(100).round(1)
    assert "Square" in printed
    without = [
        "fgsm_rs (Linf 0.3)",
        "fgsm_rs (Linf 0.3, eps_ramp=0.0)",
        "adv_gsct (Linf 0.3, consensus_weight=0.0)",
    ]
    within = [
        "adv_gsct (Linf 0.3)",
        "adv_gsct (Linf 0.3, offend=step)",
        "adv_gsct (Linf 0.3, clean_weight=1.0)",
    ]
    assert len(more.loc[without]) == len(more.loc[within]) == 9
    assert (more.loc[without].min(), more.loc[without].max()) == (6.0, 20.0)
    assert more.loc[within].max() == 4.0
    clean = more.loc["adv_gsct (Linf 0.3, clean_weight=1.0, consensus_weight=0.0)"]
    assert sorted(clean.round()) == [1, 4, 22]
    left = (names["by_attack"]["PGD-100"] - names["by_attack"]["AutoAttack"]).mul(100)
    assert round(left.loc[within].max()) == 9
