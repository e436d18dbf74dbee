"""What the documents say is so: the README's table is a run's, the examples work, the commands exist."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from benchmark.cards import card
from benchmark.cli import app
from benchmark.measuring.networks import untrained
from benchmark.measuring.place import dataset
from benchmark.plan import DataSpec
from benchmark.report.embed import with_tables
from metrics.case import predict
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
