"""Estimates from what was measured, the lines and bars that show them, and the status of a folder."""

import io
import json
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmark import suite
from benchmark.executors import Job, Outcome
from benchmark.executors.jobs import Failure
from benchmark.planner import plan
from benchmark.running import live
from benchmark.running.costs import guesses
from benchmark.running.expected import Expected, Left, in_words
from benchmark.running.journal import Journal
from benchmark.running.live import Note
from benchmark.running.progress import display
from benchmark.running.status import status
from benchmark.storage import ledger, manifest
from benchmark.storage.atomic import write_json
from benchmark.storage.ledger import Entry, Ledger


def line(key, metric="pgd", model="mlp", trainer="standard", seed=0, method="q", experiment="e"):
    return Entry(
        "digits", model, trainer, "", False, seed, "", metric, "robustness", metric, "",
        {"x": ""}, {"x": ""}, "i", "f", experiment, method, f"m{seed}{trainer}", f"s{seed}{trainer}", key,
    )  # fmt: skip


BOOK = Ledger(
    "s",
    (
        line("a"), line("b", seed=1), line("c", seed=2),
        line("d", metric="auto_attack", method="r"), line("e", metric="auto_attack", method="r", seed=1),
        line("f", model="resnet20", seed=3, trainer="trades", experiment="t"),
    ),
    {},
)  # fmt: skip


def test_a_job_takes_what_its_like_took_here():
    expected = Expected(BOOK, {}, {"cells/a": 2.0, "cells/b": 4.0, "models/m0standard": 30.0})
    assert expected.of("cells/c") == 3.0
    assert expected.of("cells/f") == 3.0  # of another model
    assert expected.of("cells/d") is None  # another metric says nothing
    assert expected.of("models/m1standard") == 30.0
    assert (
        expected.of("models/m3trades") == 30.0
    )  # another method's training is better than nothing
    expected.learn("cells/c", 12.0)
    assert expected.of("cells/f") == 6.0  # the mean of 2, 4 and 12: jobs are added up
    expected.learn("cells/d", 100.0)
    assert expected.of("cells/e") == 100.0
    assert expected.of("inspections/s0standard") is None


def test_what_was_measured_elsewhere_is_scaled_to_this_machine():
    slow = {BOOK.entries[0].identity: 1.0, BOOK.entries[3].identity: 10.0}
    assert Expected(BOOK, slow, {}).of("cells/d") == 10.0
    # the first cell also loads what it needs: it says little, hours say much
    assert Expected(BOOK, slow, {"cells/a": 3.0}).of("cells/d") == pytest.approx(10.0, abs=0.5)
    slow[BOOK.entries[0].identity] = 1200.0
    assert Expected(BOOK, slow, {"cells/a": 3600.0}).of("cells/d") == pytest.approx(30.0, abs=1.0)


def test_the_time_that_is_left():
    expected = Expected(BOOK, {}, {"cells/a": 10.0, "cells/d": 100.0})
    assert expected.left(["cells/b", "cells/c"], [], 1) == Left(20.0, 20.0, 0)
    assert expected.left(["cells/b", "cells/c"], [], 2) == Left(20.0, 10.0, 0)
    assert expected.left(["models/m1standard"], [], 1) == Left(0.0, 0.0, 1)
    # one long job keeps the other worker waiting; one that is overdue counts as nothing
    now = time.time()
    at = [Note("cells/e", "", now - 20), Note("cells/c", "", now - 11)]
    assert expected.left(["cells/b"], at, 2) == pytest.approx((90.0, 80.0, 0), abs=0.5)
    # a training knows by its epochs
    at = [Note("models/m1standard", "", now - 5, epoch=3, epochs=12, spent=30.0)]
    assert expected.left([], at, 2) == Left(90.0, 90.0, 0)
    assert str(Left(20.0, 20.0, 1)) == "more than 20 s"
    assert str(Left(0.0, 0.0, 1)) == "unknown time"
    words = ["5 s", "89 s", "2 min", "60 min", "3 h 20 min", "2 days 1 h"]
    assert [in_words(seconds) for seconds in (5, 89, 90, 3599, 12000, 177000)] == words


def test_guesses_are_those_of_the_measured_machine():
    planned = plan(suite.read("quick"))
    found = guesses(planned)
    cells = [c for c in planned.cells if c.metric.card.name == "auto_attack"]
    keys = ("images", "fit", "experiment", "method", "model_key", "inspection_key", "key")
    nothing = dict.fromkeys(keys, "")
    entry = ledger.entry(cells[0], **nothing)
    assert found[entry.identity] > 1
    assert found[entry.training] > 0
    assert guesses(plan(suite.changed(suite.read("quick"), dataset="planted"))) == {}
    # at equal cost every method takes the time of standard training
    equal = plan(suite.changed(suite.read("methods_cost"), dataset="mnist"))
    found = guesses(equal)
    times = {found[ledger.described(cell).training] for cell in equal.cells}
    assert len({t.label for t in equal.trainings}) > 5
    assert len(times) == 1


@pytest.fixture
def folder(tmp_path):
    """A run's folder with a ledger."""
    ledger.write(tmp_path, BOOK)
    write_json(tmp_path / "manifest.json", {"seconds": {"cells/a": 10.0}})
    return tmp_path


def job(name):
    return Job(name, f"title [{name}]", print, ())


def shown(folder, terminal, quiet=False, look=lambda display: None):
    """What a display prints of two jobs, one of which fails, while a training runs."""
    text = io.StringIO()
    console = Console(
        file=text, force_terminal=terminal, width=110, color_system=None, _environ={"TERM": "xterm"}
    )  # fmt: skip
    empty = SimpleNamespace(cells=(), data=SimpleNamespace(name="planted"))
    with display(Journal(console, quiet), folder, empty, 2, "bench run") as seen:  # type: ignore[arg-type]
        seen.begin([job("cells/b"), job("cells/c"), job("models/m1standard")])
        look(seen)
        seen(Outcome(job("cells/b"), None, 20.0))
        seen(Outcome(job("cells/c"), Failure("why [not]"), 1.0))
    return text.getvalue()


def test_plain_lines_tell_share_and_time_left(folder):
    lines = shown(folder, terminal=False).splitlines()
    assert lines == [
        "3 jobs on 2 worker(s), more than 10 s left",
        "1/3  57%     20.0 s  title [cells/b]  (more than 15 s left)",
        "failed 2/3 100%      1.0 s  title [cells/c]: why [not]",
    ]
    log = (folder / "log.txt").read_text().splitlines()
    assert [text.partition(" ")[2] for text in log] == ["bench run", *lines]


def test_quiet_lines_are_failures(folder):
    assert shown(folder, terminal=True, quiet=True).splitlines() == [
        "failed 2/3 100%      1.0 s  title [cells/c]: why [not]"
    ]
    assert "57%" in (folder / "log.txt").read_text()


def test_bars_show_the_jobs_that_run_and_the_epoch_of_a_training(folder):
    (folder / "running").mkdir()

    def look(seen):
        live.begin(folder, "models/m1standard", "train [it]")
        live.step(folder, "models/m1standard", 20)(SimpleNamespace(epoch=4, seconds=1.0))
        live.begin(folder, "cells/b", "PGD")
        time.sleep(0.6)  # it looks twice a second
        seen.journal.console._live_stack[-1].refresh()

    text = shown(folder, terminal=True, look=look)
    assert "train [it]" in text
    assert "epoch 5/20, 1 s" in text
    assert "1 s of about 10 s" in text
    assert "0/3 jobs" in text


def test_status_counts_waits_and_estimates(folder):
    for path in ("cells/a", "models/m0standard", "inspections/s0standard"):
        (folder / f"store/{path}.safetensors").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"store/{path}.safetensors").touch()
    book = Ledger(BOOK.suite, BOOK.entries, {"b": "why"})
    ledger.write(folder, book)
    (folder / "running").mkdir()
    live.begin(folder, "cells/c", "PGD")
    found = status(folder)
    # nobody holds the lock: what a killed run was at is waiting
    assert found.cells == {"done": 1, "running": 0, "failed": 1, "waiting": 4}
    # the next command tries the failed one, too; the run below does not
    assert (found.models, found.run, found.jobs) == ((1, 4), None, ())
    assert found.reasons == {"pgd of standard, seed 1": "why"}
    # known are three cells like the one that took 10 s, the failed one, which the next command tries again, among them;
    # unknown two of AutoAttack, three models, three inspections
    assert found.left == Left(30.0, 30.0, 8)
    assert json.loads(json.dumps(found.as_json()))["left"] == {"seconds": 30.0, "unknown": 8}
    with live.writing(folder, "bench run", 2):
        live.begin(folder, "cells/c", "PGD")
        during = status(folder)
    assert during.cells == {"done": 1, "running": 1, "failed": 1, "waiting": 3}
    assert during.left.work < 20.5  # the failed one is not for this run
    assert during.run is not None
    assert during.workers == 2
    assert [note.title for note in during.jobs] == ["PGD"]
    assert not (folder / "running").exists()


def test_seconds_survive_a_kill_and_a_cut_line(folder):
    (folder / "running").mkdir()
    live.end(folder, "cells/b", 3.0)
    live.end(folder, "cells/c", None)
    with (folder / "running/seconds").open("a") as file:
        file.write("cells/d 1x")
    assert live.seconds(folder) == {"cells/b": 3.0}
    with live.writing(folder, "bench run", 1):
        assert live.seconds(folder) == {"cells/b": 3.0}
    assert live.seconds(folder) == {"cells/b": 3.0}
    assert manifest.read(folder)["seconds"] == {"cells/a": 10.0}
    live.seconds_noted(folder)
    assert live.seconds(folder) == {}


def test_what_fails_for_a_training_has_no_line_of_its_own(folder):
    text = io.StringIO()
    empty = SimpleNamespace(data=SimpleNamespace(name="digits"), cells=())
    cells = [Job(f"cells/{key}", f"cell {key}", print, (), ("models/m",)) for key in "ab"]
    with display(Journal(Console(file=text, width=110)), folder, empty, 1, "bench run") as seen:  # type: ignore[arg-type]
        seen.begin([job("models/m"), *cells])(Outcome(job("models/m"), Failure("nan"), 1.0))
        for each in cells:
            seen(Outcome(each, Failure("its model failed: nan", cause="models/m"), 0.0))
    failed = [line for line in text.getvalue().splitlines() if line.startswith("failed")]
    assert len(failed) == 1
    assert failed[0].endswith("title [models/m]: nan (and so 2 jobs that need it)")
