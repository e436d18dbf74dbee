"""Executors: order of needs, deaths of workers, help for what can be divided, GPUs."""

import importlib
import time
from pathlib import Path

import pytest

from benchmark.errors import BenchError
from benchmark.executors import Job, Outcome, chosen, execute, in_processes, processes
from benchmark.executors.jobs import Failure
from benchmark.executors.schedule import TRIES, _Schedule, scheduled
from benchmark.measuring.place import Place
from benchmark.planner import plan
from benchmark.running.agenda import agenda
from benchmark.suite import read


@pytest.fixture
def deeds(monkeypatch):
    """tests/workers/deeds.py, as the worker processes import it (they take on this process's path)."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "workers"))
    return importlib.import_module("deeds")


def outcomes(jobs, workers):
    return {outcome.job.name: outcome.error for outcome in execute(jobs, workers)}


def test_a_worker_that_dies_costs_its_own_job_only(deeds, tmp_path):
    jobs = [
        Job("kills", "", deeds.die, (tmp_path / "kills", 99)),
        Job("needs", "", time.sleep, (0,), ("kills",)),
        Job("unlucky", "", deeds.die, (tmp_path / "unlucky", 1)),
        Job("fails", "", deeds.fail, (tmp_path / "mark",)),
        Job("works", "", deeds.touch, (tmp_path / "mark",)),
    ]
    found = outcomes(jobs, 2)
    assert str(found["kills"]).startswith(f"it killed its worker {TRIES} times")
    assert len((tmp_path / "kills").read_text()) == TRIES
    assert "its model failed: it killed" in str(found["needs"])
    assert str(found["fails"]) == "ValueError: its own trouble"
    assert found["unlucky"] is found["works"] is None
    assert len((tmp_path / "unlucky").read_text()) == 2


def test_a_worker_with_nothing_else_to_do_helps_and_is_not_waited_for(deeds, tmp_path):
    """The first job ends only once it was helped; its helper fails. The helper of the second never ends."""
    jobs = [
        Job("a", "", deeds.wait_for, (tmp_path / "a",), help=deeds.fail),
        Job("b", "", deeds.wait_for, (tmp_path / "b",), ("a",), help=deeds.hold),
    ]
    assert outcomes(jobs, 2) == {"a": None, "b": None}


def test_here_a_failure_is_told_and_the_others_go_on(deeds, tmp_path):
    jobs = [
        Job("a", "", deeds.fail, (tmp_path / "a",)),
        Job("b", "", int, (), ("a",)),
        Job("c", "", int, ()),
    ]
    found = outcomes(jobs, 1)
    assert str(found["a"]) == "ValueError: its own trouble"
    assert str(found["b"]) == "its model failed: ValueError: its own trouble"
    assert (found["a"].cause, found["b"].cause) == ("", "a")
    assert found["c"] is None


class Recorded:
    """A pool in this process: it says what was begun, and lets the oldest end."""

    one_machine = True

    def __init__(self, size):
        self.size, self.running, self.begun = size, [], []

    def room(self):
        return self.size - len(self.running)

    def begin(self, ticket):
        self.running.append(ticket)
        self.begun.append((ticket.job.name, ticket.helping))

    def ended(self):
        ticket = self.running.pop(0)
        dies = ticket.job.name == "dies"
        return [(ticket, None if dies else Outcome(ticket.job, None, 0.0))]

    def close(self):
        pass


def begun(jobs, size):
    pool = Recorded(size)
    list(scheduled(jobs, lambda: pool))
    return pool.begun


def test_an_address_is_of_a_cluster():
    with pytest.raises(BenchError, match="--address auto is of a Ray cluster; give --executor ray"):
        chosen("processes", address="auto", workers=None, device="cpu")


def test_jobs_wait_for_what_they_need():
    jobs = [
        Job("read", "", int, (), ("make",)),
        Job("other", "", int, ()),
        Job("make", "", int, (), ("of an earlier run",)),
    ]
    assert begun(jobs, 3) == [("other", False), ("make", False), ("read", False)]


def test_who_would_wait_for_a_fit_lets_others_begin_before_it():
    """The generator of "x" is fitted by the first of its jobs; once it is there, they begin in their order."""
    jobs = [Job(name, "", int, (), fits=fits) for name, fits in zip("abcde", "xxxy ", strict=True)]
    schedule = _Schedule(jobs, alone=False)
    first = [schedule.next() for _ in range(3)]
    assert [ticket.job.name for ticket in first] == ["a", "d", "e"]
    list(schedule.ended(first[0], Outcome(jobs[0], None, 1.0)))
    assert [schedule.next().job.name for _ in range(2)] == ["b", "c"]


def test_where_nothing_else_waits_a_job_begins_beside_the_fit_it_needs():
    jobs = [Job(name, "", int, (), fits="x") for name in "ab"]
    schedule = _Schedule(jobs, alone=False)
    assert [schedule.next().job.name for _ in range(2)] == ["a", "b"]


def test_a_fit_that_failed_is_made_by_the_next():
    jobs = [Job(name, "", int, (), fits="x") for name in "ab"] + [Job("c", "", int, ())]
    schedule = _Schedule(jobs, alone=False)
    first = schedule.next()
    list(schedule.ended(first, Outcome(first.job, Failure("no"), 1.0)))
    assert [schedule.next().job.name for _ in range(2)] == ["b", "c"]


def test_cells_that_share_a_generator_say_so(tmp_path):
    """Of each generator and its passes one name for all models; none where nothing is fitted."""
    metrics = ["gini", "tangent_fraction", "reconstruction_distance"]
    text = 'name = "s"\ndataset = "digits"\nseeds = [0, 1]\ncontrols = false\n[[trainer]]\nname = "standard"\n'
    text += "".join(f'[[metric]]\nname = "{name}"\n' for name in metrics)
    (tmp_path / "s.toml").write_text(
        text + 'generator = ["vae", "vae_gan"]\nepochs = 3\nreferee = "own"\n'
    )
    found = agenda(plan(read(str(tmp_path / "s.toml"))), Place(tmp_path, None, "cpu"), {})
    fits = {}
    for line in found.entries:
        fits.setdefault((line.metric, line.params), set()).add(found.jobs[f"cells/{line.key}"].fits)
    assert all(len(names) == 1 for names in fits.values()), "both seeds wait for the same fit"
    given = [next(iter(names)) for names in fits.values()]
    assert given[0] == ""
    assert len(set(given[1:])) == 3
    assert all(given[1:])


def test_help_comes_after_all_work_and_goes_to_who_has_least():
    jobs = [Job(name, name, int, (), help=float) for name in "ab"] + [Job("c", "c", int, ())]
    first = begun(jobs, 7)
    assert first[:3] == [("a", False), ("b", False), ("c", False)]
    assert sorted(first[3:7]) == [("a", True), ("a", True), ("b", True), ("b", True)]


def test_the_last_try_of_a_job_has_the_machine_for_itself():
    jobs = [Job("dies", "", int, ()), *(Job(str(i), "", int, ()) for i in range(4))]
    names = [name for name, _ in begun(jobs, 2)]
    assert names.count("dies") == TRIES
    assert names == ["dies", "0", "dies", "1", "dies", "2", "3"]


def test_each_worker_has_a_gpu_while_there_are_enough(deeds, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "gpus", lambda device: ("4", "7"))
    jobs = [Job(str(i), "", deeds.own_gpu, (tmp_path / "seen", 3)) for i in range(3)]
    assert set(outcomes(jobs, 3).values()) == {None}
    assert sorted((tmp_path / "seen").read_text().split()) == ["4", "4", "7"]


def test_the_gpus_are_those_that_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert processes.gpus("cuda") == ("2", "5")
    assert processes.gpus("cuda:1") == processes.gpus("cpu") == ()


def test_a_worker_whose_gpu_has_failed_is_replaced(tmp_path):
    """It would fail whatever comes next; the job itself is not tried again."""
    note = f"import os; open({str(tmp_path / 'seen')!r}, 'a').write(f'{{os.getpid()}} ')"
    error = "raise RuntimeError('CUDA error: device-side assert triggered')"
    codes = {"first": note, "spoils": f"{note}; {error}", "next": note}
    jobs = [Job(name, "", exec, (code, {})) for name, code in codes.items()]
    found = {outcome.job.name: outcome.error for outcome in in_processes(jobs, 1, "cpu")}
    assert found["first"] is found["next"] is None
    assert "device-side assert" in str(found["spoils"])
    first, spoils, then = (tmp_path / "seen").read_text().split()
    assert first == spoils != then


SPOIL = (
    "import os, torch; os.chdir('/'); torch.set_num_threads(3); torch.set_default_device('meta'); "
    "torch.backends.cudnn.allow_tf32 = True"
)
LOOK = """import os, torch
assert os.getcwd() == folder, os.getcwd()
assert torch.get_num_threads() == 1
assert not torch.backends.cudnn.allow_tf32
assert torch.zeros(1).device.type == 'cpu'
"""


@pytest.mark.parametrize("where", [execute, in_processes])
def test_a_job_finds_its_process_as_the_first_one_did(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    facts = {"folder": str(tmp_path)}
    jobs = [Job("spoils", "", exec, (SPOIL, {})), Job("looks", "", exec, (LOOK, facts))]
    assert [str(outcome.error) for outcome in where(jobs, 1, "cpu")] == ["None", "None"]


@pytest.mark.parametrize(
    ("bound", "cores"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("", 8)]
)
def test_a_container_has_as_many_workers_as_it_may_use(tmp_path, monkeypatch, bound, cores):
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setattr(processes, "_QUOTA", tmp_path / "cpu.max")
    assert processes.usual("cpu") == 8
    (tmp_path / "cpu.max").write_text(f"{bound}\n")
    assert processes.usual("cpu") == cores
