"""Cards: what is read of a method from its source, and how settings are checked."""

import importlib.metadata

import pytest

from benchmark import cards as room
from benchmark.cards import CardError, card, cards

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
    assert {name for name, c in cards("trainers").items() if c.reconstruction} == {
        "sagr",
        "adv_gsct",
    }


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
    with pytest.raises(RuntimeError, match="was run"):
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
        room, "entry_points", lambda group: [entry] if group == "bench.metrics" else []
    )
    cards.cache_clear()
    try:
        assert cards("metrics")["mine"].load().__name__ == "mine"
        assert "mine" not in cards("trainers")
    finally:
        cards.cache_clear()
