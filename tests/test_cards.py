"""Cards: what is read of a method from its source, and how settings are checked."""

import dataclasses
import importlib.metadata
import sys

import pytest

from benchmark import cards as room
from benchmark import suite
from benchmark.cards import KINDS, CardError, card, cards
from benchmark.cards.catalogue import catalogue, describe
from benchmark.cards.docstrings import entries, split
from benchmark.controls import counted
from benchmark.datasets.defaults import defaults, names
from benchmark.planner import plan
from trainers.recipe import Recipe

OWN = '''
from metrics.case import Case, Scores
from typing import Literal

Mode = Literal["a", "b"]

def mine(case: Case, *, mode: Mode = "a", share: float = 0.5) -> Scores:
    """One line.

    More text.

    Label: Mine-{share}
    Measures:
        good (higher, 0..1): The first
            goes on here.
        points@ (none, 0..1): A curve.
    Args:
        mode: Which one.
    """
    return {"good": (case.y == case.y).float()}
'''


OF_MAPS = {"fidelity", "sharpness", "localisation", "stability", "manifold", "sanity"}
"""Families that measure maps or gradients."""


def test_every_trainer_and_metric_has_a_complete_card():
    assert {"standard", "pgd_at", "trades", "sagr", "adv_gsct"} <= set(cards("trainers"))
    for kind in ("trainers", "metrics"):
        for found in cards(kind).values():
            assert {"Formula", "Cost"} <= set(found.sections), found.name
            assert (
                found.name == "standard"
                or found.name == "clean_accuracy"
                or found.sections["Paper"]
            )
            for parameter in found.parameters:
                assert parameter.help, f"{found.name}.{parameter.name} is not described"
                assert parameter.check(parameter.default) == parameter.default
    for found in cards("metrics").values():
        assert found.measures
        assert found.measures[0].direction in ("higher", "lower"), "the headline has a direction"
    for found in cards("metrics").values():
        if found.family in OF_MAPS:
            missing = {"Map", "Chance"} - set(found.sections)
            assert not missing, f"{found.name}: how a map is read, and what a random one scores"
    assert {name for name, c in cards("trainers").items() if c.reconstruction} == {
        "sagr",
        "adv_gsct",
    }


def test_every_word_of_a_section_arrives():
    for kind in KINDS:
        for found in cards(kind).values():
            for title in {"Args", "Measures"} & set(found.sections):
                text = found.sections[title]
                read = list(entries(text))
                assert [w for e in read for w in ": ".join(e).split()] == text.split(), found.name
                named = {p.name for p in found.parameters} if title == "Args" else set(dict(read))
                assert set(dict(read)) <= named, found.name


def test_a_single_entry_goes_on_over_lines_as_several_do():
    text = "One.\n\nFormula: a\n    + b\nArgs:\n    share: What is\n        taken.\nCost: none\n"
    definition, sections = split(text)
    assert definition == "One."
    assert sections == {
        "Formula": "a\n+ b",
        "Args": "share: What is\n    taken.",
        "Cost": "none",
    }
    assert dict(entries(sections["Args"])) == {"share": "What is taken."}


def test_a_users_file_is_read_and_not_run(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("raise RuntimeError('was run')\n" + OWN)
    found = card("metrics", str(path))
    assert found.definition == "One line.\n\nMore text."
    assert found.label({"share": 0.25}) == "Mine-0.25"
    first, second = found.measures
    assert (first.name, first.direction, first.help) == (
        "good",
        "higher",
        "The first goes on here.",
    )
    assert second.curve
    mode, share = found.parameters
    assert (mode.annotation, mode.help, share.default) == ("a | b", "Which one.", 0.5)
    with pytest.raises(CardError, match=r"mode = 'c': Input should be 'a' or 'b'"):
        mode.check("c")
    with pytest.raises(CardError, match="RuntimeError: was run"):
        found.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def other(case): pass", "must define a function 'mine'"),
        ("def mine(:", "is not Python"),
        (
            'def mine(case):\n    """x\n\n    Measures:\n        good: what\n    """',
            r"must read 'name \(higher",
        ),
    ],
)
def test_a_wrong_file_is_explained(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(CardError, match=message):
        card("metrics", str(path))


def test_names_and_settings_that_do_not_exist_name_the_nearest():
    with pytest.raises(CardError, match=r"no trainer 'trade' \(did you mean 'trades'\?\); valid: "):
        card("trainers", "trade")
    with pytest.raises(CardError, match=r"no such file: nowhere\.py"):
        card("trainers", "nowhere.py")
    trades = card("trainers", "trades")
    with pytest.raises(CardError, match=r"trades has no setting 'betta' \(did you mean 'beta'\?\)"):
        trades.parameter("betta")
    for wrong in ("6", -1.0, None, [1.0]):
        with pytest.raises(CardError, match="beta = "):
            trades.parameter("beta").check(wrong)
    assert trades.parameter("beta").check(1) == 1.0
    percents = card("metrics", "roar").parameter("percents")
    assert percents.takes_list
    assert percents.check([10, 90]) == (10, 90)
    with pytest.raises(CardError):
        percents.check([0])


def test_installed_packages_are_found_by_entry_point(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/__init__.py").touch()
    (tmp_path / "theirs/losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    entry = importlib.metadata.EntryPoint("mine", "theirs.losses:mine", "bench.metrics")
    monkeypatch.setattr(
        room, "entry_points", lambda group: [entry] if group != "bench.trainers" else []
    )
    cards.cache_clear()
    try:
        assert cards("metrics")["mine"].load().__name__ == "mine"
        assert all("mine" not in cards(kind) for kind in ("trainers", "datasets", "models"))
    finally:
        cards.cache_clear()


def _wrong(tmp_path, kind, text, name="mine"):
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    with pytest.raises(CardError) as caught:
        card(kind, str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def _metric(section="Measures:\n        good (higher, 0..1): What.", signature="case"):
    return f'def mine({signature}):\n    """One line.\n\n    {section}\n    """\n'


def test_a_metric_says_what_it_measures_and_which_way_is_better(tmp_path):
    for text in ("def mine(case): pass", _metric("Cost: none"), _metric("Measures:\n        good")):
        message = _wrong(tmp_path, "metrics", text)
        assert "add 'Measures:' and under it, indented, 'good (higher, 0..1): What it " in message
    first = "Measures:\n        size (none, 0..1): What.\n        good (higher, 0..1): What."
    assert "'size' is the first" in _wrong(tmp_path, "metrics", _metric(first))
    (tmp_path / "mine.py").write_text("@from_loss\ndef mine(model, x, y, step): pass")
    assert card("trainers", str(tmp_path / "mine.py")).measures == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        ("-(1 + 2 * 3)", -7),
        ("(0.5, 8/255, (+1 - 2,))", (0.5, 8 / 255, (-1,))),
        ("'a'", "a"),
        ("None", None),
        ("True", True),
    ],
)
def test_a_default_may_be_arithmetic_of_constants(tmp_path, text, value):
    (tmp_path / "mine.py").write_text(_metric(signature=f"case, *, radius: object = {text}"))
    (radius,) = card("metrics", str(tmp_path / "mine.py")).parameters
    assert radius.default == value
    assert type(radius.default) is type(value)


@pytest.mark.parametrize(
    "text", ["RADIUS", "1/0", "'a' * 9", "-'a'", "[1]", "2**9", "float('inf')", "...", "1 + True"]
)
def test_any_other_default_is_refused_by_name(tmp_path, text):
    message = _wrong(tmp_path, "metrics", _metric(signature=f"case, *, radius: float = {text}"))
    assert "setting 'radius'" in message
    assert "a default must be a constant" in message


@pytest.mark.parametrize("label", ["L {foo}", "L {}", "L {0}", "L {share.real}", "L {share:.2f}"])
def test_a_label_names_settings_only(tmp_path, label):
    measures = "    Measures:\n        good (higher, 0..1): What."
    text = _metric(f"Label: {label}\n{measures}", "case, *, share: float = 0.5")
    assert "valid: share" in _wrong(tmp_path, "metrics", text)
    assert "Label 'L {'" in _wrong(tmp_path, "metrics", text.replace(label, "L {"))


def test_a_setting_needs_a_default_and_what_the_harness_passes_is_none(tmp_path):
    lifted = (
        "from trainers.base import from_loss\n@from_loss\ndef mine(model, x, y, step, *, {}): ..."
    )
    assert "'beta' needs a default" in _wrong(tmp_path, "trainers", lifted.format("beta: float"))
    assert "'beta' needs a default" in _wrong(
        tmp_path, "metrics", _metric(signature="case, *, beta")
    )
    assert "the harness itself" in _wrong(tmp_path, "trainers", lifted.format("threat, beta=1"))
    whole = "recipe, threat, seed, selection, on_epoch=print, beta: float = 1.0"
    (tmp_path / "mine.py").write_text(f"def mine(model, train, validation, /, *, {whole}): ...")
    found = card("trainers", str(tmp_path / "mine.py"))
    assert [parameter.name for parameter in found.parameters] == ["beta"]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("trainers", "def mine(model, x, y, step): ...", "put `@from_loss` (of trainers.base) above `def mine`"),
        ("trainers", "def mine(model, setup, *, a=1): ...", "put `@from_objective` (of trainers.base)"),
        ("trainers", _metric(), "mine is a metric; write it under [[metric]] or after --metric"),
        ("metrics", "@base.from_loss\ndef mine(model, x, y, step): ...", "mine is a trainer; write it under"),
        ("trainers", "@from_loss\ndef mine(model, x, y, step, a=1): ...", "write `*, ` before a in def mine"),
        ("metrics", _metric(signature="case, a=1, b=2"), "write `*, ` before a in def mine"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_method_of_its_kind_says_so_before_it_runs(tmp_path, kind, text, message):
    assert message in _wrong(tmp_path, kind, text)


def test_show_says_what_a_metric_with_settings_by_position_lacks(tmp_path):
    (tmp_path / "mine.py").write_text(_metric(signature="case, a=1"))
    with pytest.raises(CardError, match="before a in def mine"):
        describe(str(tmp_path / "mine.py"))


def test_a_users_file_does_not_take_the_name_of_a_method(tmp_path, monkeypatch):
    text = "def trades(model, x, y, step): ..."
    assert "'trades' is the name of a trainer that exists; rename the file" in _wrong(
        tmp_path, "trainers", text, "trades"
    )
    with pytest.raises(CardError, match="write its name instead of its path"):
        card("trainers", str(room.ROOT / "trainers/trades.py"))
    (tmp_path / "others.py").write_text("@from_loss\ndef special(model, x, y, step): ...")
    monkeypatch.syspath_prepend(tmp_path)
    entry = importlib.metadata.EntryPoint("special", "others:special", "bench.trainers")
    monkeypatch.setattr(
        room, "entry_points", lambda group: [entry] if group == "bench.trainers" else []
    )
    cards.cache_clear()
    try:
        text = "def special(model, x, y, step): ..."
        assert "rename the file" in _wrong(tmp_path, "trainers", text, "special")
    finally:
        cards.cache_clear()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("import a_package_that_is_not_there", "ModuleNotFoundError: No module named 'a_package_"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('two\\nlines')", "SystemExit: two lines"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_in_one_line(tmp_path, line, reason):
    path = tmp_path / "mine.py"
    path.write_text(line + "\n" + _metric())
    found = card("metrics", str(path))
    with pytest.raises(CardError) as caught:
        found.load()
    assert str(caught.value).startswith(f"{path} cannot be imported: {reason}")
    assert "\n" not in str(caught.value)
    assert caught.value.status == 2
    assert "bench_own_mine" not in sys.modules


def test_an_error_of_the_method_itself_is_its_own(tmp_path):
    (tmp_path / "mine.py").write_text(_metric() + "    return 1 / 0\n")
    method = card("metrics", str(tmp_path / "mine.py")).load()
    with pytest.raises(ZeroDivisionError):
        method(None)


def test_the_suite_of_interpretability_has_every_measure_of_maps_once_beside_its_controls():
    entries = {entry.name: entry.settings for entry in suite.read("interpretability").metric}
    assert set(entries) - {"clean_accuracy"} == {
        name for name, found in cards("metrics").items() if found.family in OF_MAPS
    }
    metrics = counted(
        (cell.metric, cell.threat) for cell in plan(suite.read("interpretability")).cells
    )
    beside = {metric.card.name: controls for (metric, _), controls in metrics.items()}
    for name, settings in entries.items():
        valid = {p.name: p for p in card("metrics", name).parameters}
        if "controls" in valid:
            assert "blurred" in settings.get("controls", valid["controls"].default)
        # noise is the control of the attack
        maps = "attribution" in valid and name != "attribution_attack"
        assert beside[name] == (3 if maps and "controls" not in valid else 0), name


def test_a_method_for_one_norm_says_so_and_has_its_example():
    text, facts = describe("certified_accuracy")
    assert text.endswith("Takes a threat model under L2, as in threat = 'L2 0.5'.")
    assert facts["norms"] == ("L2",)
    assert describe("pgd")[0].endswith("Takes a threat model, as in threat = 'Linf 8/255'.")


def test_a_reconstruction_is_listed_by_the_name_that_suites_take():
    listed = {row["name"]: row["reconstruction"] for row in catalogue("trainers")}
    assert set(listed) == set(cards("trainers"))
    assert (listed["sagr"], listed["standard"]) == (True, False)


def test_a_choice_by_the_name_of_its_module_tells_what_is_valid():
    found = card("trainers", "pgd_at").parameter("attack_bn")
    assert found.annotation == "eval | train"
    with pytest.raises(CardError, match="Input should be 'eval' or 'train'"):
        found.check("evl")


def test_show_says_how_a_map_is_read_and_what_a_random_one_scores():
    for name in ("gini", "grid_pointing_game"):
        text, facts = describe(name)
        sections = card("metrics", name).sections
        for title in ("Map", "Chance"):
            assert f"{title}: {sections[title]}" in text
            assert facts[title.lower()] == sections[title]


TRAINERS = {
    "loss": "@from_loss\ndef mine(model, x, y, step, *, beta: float = 1.0):",
    "objective": "@from_objective\ndef mine(model, setup, *, beta: float = 1.0):",
}


@pytest.mark.parametrize("head", TRAINERS.values(), ids=TRAINERS)
def test_show_takes_a_trainer_of_ones_own(tmp_path, head):
    (tmp_path / "mine.py").write_text(f'raise SystemExit("run")\n{head}\n    """My loss."""\n')
    text, facts = describe(str(tmp_path / "mine.py"))
    assert text.startswith("mine: trainer\n\nMy loss.")
    assert "beta = 1.0 (float)" in text
    assert facts["kind"] == "trainers"


def test_show_takes_a_metric_of_ones_own_and_says_what_is_wrong_with_one(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        'def mine(case):\n    """Mine.\n\n    Measures:\n        good (higher, 0..1): Good.\n    """\n'
    )
    text, facts = describe(str(path))
    assert text.startswith("mine: metric (own)")
    assert facts["measures"][0]["name"] == "good"
    path.write_text('def mine(case):\n    """Mine."""\n')
    with pytest.raises(CardError, match="names no measures"):
        describe(str(path))
    path.write_text("def other(): ...")
    with pytest.raises(CardError, match="must define a function 'mine', named as the file"):
        describe(str(path))
    with pytest.raises(CardError, match="no such file"):
        describe(str(tmp_path / "none.py"))


def test_show_says_how_a_data_set_is_trained_on():
    text, facts = describe("mnist")
    blocks = dict(block.partition("\n")[::2] for block in text.split("\n\n"))
    assert "  eps_ramp = 0.2" in blocks["Recipe:"].splitlines()
    assert len(blocks["Recipe:"].splitlines()) == len(dataclasses.fields(Recipe))
    assert blocks["Settings of trainers that are not their defaults:"].splitlines() == [
        "  trades: beta = 1.0",
        "  interpretation: norm_weight = 0.106",
    ]
    named = blocks['Recipe named = "kim2019", where it differs:'].splitlines()
    assert {
        "  epochs = 5",
        "  eps_ramp = 0.0",
        "  pgd_at: steps = 40, random_start = false",
    } <= set(named)
    assert not [line for line in named if "batch_size" in line or "beta" in line]
    assert facts["trainers"] == {"trades": {"beta": 1.0}, "interpretation": {"norm_weight": 0.106}}
    assert facts["recipes"]["kim2019"]["recipe"]["batch_size"] == 100
    assert "Settings of trainers" not in describe("digits")[0]


@pytest.mark.parametrize("name", names())
def test_every_recipe_of_a_data_set_is_shown(name):
    text, facts = describe(name)
    known = defaults("folder:PATH" if name == "folder" else name)
    assert set(facts["recipes"]) == set(known.recipes)
    for title in known.recipes:
        assert f'Recipe named = "{title}", where it differs:\n' in text


def test_what_nothing_is_called_names_three_at_most():
    with pytest.raises(
        CardError, match=r"^nothing is called 'nonsense'; see bench list trainers, metrics, "
    ):
        describe("nonsense")
    with pytest.raises(
        CardError, match=r"\(did you mean '[\w' ]+ or '[\w' ]+ or 'resnet2b'\?"
    ) as caught:
        describe("resnet")
    assert len(str(caught.value)) < 250


def test_every_definition_is_a_sentence_of_a_line():
    for kind in ("trainers", "metrics", "attributions", "datasets", "models"):
        for found in cards(kind).values():
            assert found.summary.endswith("."), found.name
            assert len(found.summary) < 125, found.name
