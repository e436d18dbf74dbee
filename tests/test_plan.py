"""Suites and plans: grids, relative threats, labels, and every wrong line explained before anything runs."""

import pytest

from benchmark import keys, suite
from benchmark.cards import ROOT, cards
from benchmark.planner import plan, threat
from benchmark.storage import ledger
from benchmark.suite import Suite, SuiteError, changed, read, scaled
from metrics.threat import L2, Linf

GINI = '[[metric]]\nname = "gini"\n'
TRAINER = '[[trainer]]\nname = "trades"\n'
HEAD = 'name = "s"\ndataset = "digits"\nseeds = [0, 1]\n'
METRIC = '[[metric]]\nname = "clean_accuracy"\n'


def planned(tmp_path, text):
    path = tmp_path / "s.toml"
    path.write_text(HEAD + text)
    return plan(read(str(path)))


def test_a_list_is_a_grid(tmp_path):
    made = planned(
        tmp_path,
        '[[trainer]]\nname = "trades"\nbeta = [1.0, 6.0]\nthreat = ["Linf", "L2 0.5"]\n'
        '[[metric]]\nname = "roar"\npercents = [[10, 50], [90]]\n' + METRIC,
    )
    labels = [
        "trades (Linf 0.1, beta=1.0)",
        "trades (L2 0.5, beta=1.0)",
        "trades (Linf 0.1, beta=6.0)",
        "trades (L2 0.5, beta=6.0)",
    ]
    assert [t.label for t in made.trainings] == [label for label in labels for _ in range(2)]
    assert [t.seed for t in made.trainings] == [0, 1] * 4
    settings = [dict(cell.metric.settings) for cell in made.cells[:3]]
    assert settings == [{"percents": (10, 50)}, {"percents": (90,)}, {}]
    assert len(made.cells) == 8 * 3


def test_what_stands_alone_and_in_a_grid_is_one_row_by_its_first_name(tmp_path):
    grid = '[[trainer]]\nname = "trades"\nbeta = [1.0, 6.0]\n'
    made = planned(tmp_path, '[[trainer]]\nname = "trades"\n' + grid + METRIC)
    labels = ["trades (Linf 0.1)", "trades (Linf 0.1, beta=1.0)"]
    assert [t.label for t in made.trainings] == [label for label in labels for _ in range(2)]


def test_a_setting_equal_to_the_default_is_no_other_cell(tmp_path):
    made = planned(
        tmp_path, '[[trainer]]\nname = "trades"\nbeta = 6.0\n[[metric]]\nname = "pgd"\nsteps = 20\n'
    )
    assert made.cells[0].metric.settings == ()
    assert made.trainings[0].trainer.settings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Linf", Linf(0.1)),
        ("Linf *0.5", Linf(0.05)),
        ("L2 2", L2(2.0)),
        ("Linf 8/255", Linf(8 / 255)),
        ("L2", L2(1.0)),
    ],
)
def test_threats_are_the_data_sets_own_or_as_written(text, expected):
    assert threat(text, {"Linf": "0.1", "L2": "1.0"}) == expected


def test_star_stands_for_the_rest(tmp_path):
    made = planned(
        tmp_path,
        '[[trainer]]\nname = "*"\n[[trainer]]\nname = "standard"\n[[metric]]\nname = "*"\n',
    )
    assert {t.trainer.reference for t in made.trainings} == set(cards("trainers"))
    assert {c.metric.reference for c in made.cells} == set(cards("metrics"))
    assert len(made.trainings) == 2 * len(cards("trainers"))


def maps(made):
    """(metric, attribution) of the cells of the first model."""
    first = [cell.metric for cell in made.cells if cell.training == made.trainings[0]]
    return [(m.reference, dict(m.settings).get("attribution", "gradient")) for m in first]


BESIDE = ["random", "sobel", "blurred_gradient"]


def test_beside_every_metric_of_maps_stand_its_controls(tmp_path):
    other = '[[metric]]\nname = "entropy"\nof = "logit"\nattribution = "grad_cam"\n'
    made = planned(tmp_path, TRAINER + METRIC + GINI + other)
    assert maps(made) == [
        ("clean_accuracy", "gradient"),
        *(("gini", each) for each in ["gradient", *BESIDE]),
        *(("entropy", each) for each in ["grad_cam", "random", "sobel", "blurred_grad_cam"]),
    ]
    assert all(dict(cell.metric.settings)["of"] == "logit" for cell in made.cells[5:9])


def test_a_control_that_the_suite_names_is_there_once_and_has_no_controls_itself(tmp_path):
    named = GINI + 'attribution = ["blurred_gradient", "gradient", "random"]\n'
    assert maps(planned(tmp_path, TRAINER + named)) == [
        ("gini", each) for each in ["blurred_gradient", "gradient", "random", "sobel"]
    ]
    alone = GINI + 'attribution = ["random", "sobel", "blurred_random"]\n'
    assert len(maps(planned(tmp_path, TRAINER + alone))) == 3


def test_what_runs_its_own_controls_or_takes_none_gets_none(tmp_path):
    """Also not a metric of one's own whose maps have other names."""
    own = tmp_path / "own.py"
    own.write_text(
        'def own(case, *, attribution: str = "mine"):\n'
        '    """Own.\n\n    Measures:\n        x (higher, 0..1): X.\n    """\n'
    )
    names = ["roar", "kar", "diff_roar", "attribution_attack", "pag_cosine", str(own)]
    text = "".join(f"[[metric]]\nname = {name!r}\n" for name in names)
    assert [name for name, _ in maps(planned(tmp_path, TRAINER + text))] == names


def test_controls_stand_beside_a_metric_of_ones_own_that_takes_the_maps_of_ours(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "from metrics.attribution import AttributionName\n"
        'def own(case, *, attribution: AttributionName = "sobel"):\n'
        '    """Own.\n\n    Measures:\n        x (higher, 0..1): X.\n    """\n'
    )
    text = f"[[metric]]\nname = {str(own)!r}\nattribution = 'gradient'\n"
    settings = [
        c.metric.settings for c in planned(tmp_path, "controls = ['edge']\n" + TRAINER + text).cells
    ]
    # the control is the metric's own default
    assert settings[:2] == [(("attribution", "gradient"),), ()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("controls = false", []),
        ("controls = []", []),
        ("controls = true", BESIDE),
        ('controls = ["blurred", "random"]', ["random", "blurred_gradient"]),
    ],
)
def test_a_suite_says_which_controls_stand_beside_its_maps(tmp_path, line, expected):
    made = planned(tmp_path, f"{line}\n" + TRAINER + GINI)
    assert [each for _, each in maps(made)] == ["gradient", *expected]
    assert maps(plan(changed(made.suite, metrics=["gini"]))) == maps(made), "--metric keeps them"
    roar = plan(changed(made.suite, metrics=["roar"])).cells[0].metric
    assert roar.settings == (), "a metric's own setting of this name is another matter"


def test_a_metric_with_controls_of_its_own_may_have_none(tmp_path):
    made = planned(tmp_path, TRAINER + '[[metric]]\nname = "roar"\ncontrols = []\n')
    assert made.cells[0].metric.settings == (("controls", ()),)


def test_a_scale_may_have_other_controls(tmp_path):
    text = 'name = "s"\n' + TRAINER + GINI + "[scale.small]\ncontrols = false\n"
    (tmp_path / "s.toml").write_text(text)
    whole = read(str(tmp_path / "s.toml"))
    assert [len(plan(each).cells) for each in (whole, scaled(whole, "small"))] == [4, 1]


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_of_the_package_can_be_planned_in_every_size(name):
    suite = read(name)
    for scale in (None, *suite.scale):
        sized = scaled(suite, scale)
        assert plan(sized).cells
        if any("named" in own for own in (sized.recipe, *(each.recipe for each in sized.trainer))):
            continue  # a paper's recipe is for its own data
        for dataset in ("digits", "cifar10"):
            made = plan(changed(sized, dataset=dataset))
            families = {cell.metric.card.family for cell in made.cells}
            both = {"robustness", "fidelity", "manifold", "sharpness"}
            # scales that ask one question, of robustness
            one = scale in ("choice", "control", "norms")
            assert families >= ({"robustness"} if one else both)


def test_a_scale_replaces_keys_and_merges_tables(tmp_path):
    (tmp_path / "s.toml").write_text(
        'name = "s"\nseeds = [0, 1]\nrecipe = { epochs = 9, lr = 0.1 }\n[[metric]]\nname = "gini"\n'
        '[[trainer]]\nname = "standard"\n[[trainer]]\nname = "trades"\n'
        '[scale.small]\nseeds = [7]\nrecipe = { epochs = 1 }\ntrainer = [{ name = "mart", beta = 2.0 }]\n'
    )
    suite = read(str(tmp_path / "s.toml"))
    assert scaled(suite, None) == suite
    small = scaled(suite, "small")
    assert (small.name, small.seeds, small.recipe) == ("s-small", [7], {"epochs": 1, "lr": 0.1})
    assert [(entry.name, entry.settings) for entry in small.trainer] == [("mart", {"beta": 2.0})]
    assert small.metric == suite.metric
    with pytest.raises(SuiteError, match=r"no scale 'smal' \(did you mean 'small'\?\)"):
        scaled(suite, "smal")
    with pytest.raises(SuiteError, match="one size only"):
        scaled(small, "small")


def test_a_wrong_scale_is_told(tmp_path):
    (tmp_path / "s.toml").write_text(
        'name = "s"\n[[metric]]\nname = "gini"\n[scale.small]\nlimits = 3\n'
    )
    said = r"s\.toml: scale\.small: unknown key 'limits' \(did you mean 'limit'\?\)"
    with pytest.raises(SuiteError, match=said):
        read(str(tmp_path / "s.toml"))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("3", r"seeds = 3: give a list, as in \[0, 1, 2\]"),
        ("[]", r"seeds = \[\]: give at least one"),
        ("[0, 0]", r"seeds = \[0, 0\]: a seed stands there twice"),
        ('[0]\n[tables."a b"]\ncolumns = ["pgd"]', r"tables\.a b = 'a b': a name is of letters"),
        ('[0, "x"]', r"seeds\[1\] = 'x': Input should be a valid integer"),
    ],
)
def test_seeds_are_a_list_of_numbers(tmp_path, seeds, message):
    (tmp_path / "s.toml").write_text(f'name = "s"\nseeds = {seeds}\n{METRIC}')
    with pytest.raises(SuiteError, match=message):
        read(str(tmp_path / "s.toml"))


@pytest.mark.parametrize("name", ["smoke", "full"])
def test_a_suite_of_every_family_has_every_family(name):
    families = {cell.metric.card.family for cell in plan(read(name)).cells}
    assert families == {found.family for found in cards("metrics").values()}


def test_what_the_issue_of_quick_asks_for():
    labels = {t.label.partition(" (")[0] for t in plan(read("quick")).trainings}
    assert labels >= {
        "standard",
        "pgd_at",
        "trades",
        "input_gradient",
        "jacobian",
        "sagr",
        "adv_gsct",
    }
    norms = {t.threat.norm for t in plan(read("quick")).trainings if t.label.startswith("pgd_at")}
    assert norms == {"Linf", "L2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seedz = [1]\n" + METRIC, r"s\.toml: unknown key 'seedz' \(did you mean 'seeds'\?\); valid: "),
        ("limit = 0\n" + METRIC, "limit = 0: Input should be greater than or equal to 1"),
        ("", "key 'metric' is missing"),
        ("x = = 1", r"s\.toml: not TOML: "),
        ('[[metric]]\nname = "ginni"', r"metric\[0\]: no metric 'ginni' \(did you mean 'gini'\?\)"),
        ('[[metric]]\nname = "pgd"\nsteps = 0', r"metric\[0\]: steps = 0: Input should be greater than"),
        ('[[metric]]\nname = "pgd"\nthreat = "Linf -1"', r"metric\[0\]\.threat: eps must be .*got -1"),
        ('[[metric]]\nname = "pgd"\nthreat = "L7 1"', r"unknown norm 'L7' .*valid: Linf, L2"),
        ('[[metric]]\nname = "pgd"\nthreat = "Linf *x"', r"'Linf \*x' needs a number after \*"),
        (GINI + 'threat = "Linf"', "gini takes no threat"),
        ('[[trainer]]\nname = "sagr"\nthreat = "L2 0.5"\n' + METRIC, r"trainer\[0\]\.threat: sagr takes no threat"),
        (TRAINER + 'recipe.architecture = "arch.py"\n' + METRIC,
         r"trainer\[0\]\.recipe\.architecture = 'arch\.py': .* valid: PATH\.py:FUNCTION"),
        (TRAINER + 'recipe.architecture = "gone.py:Net"\n' + METRIC, r"architecture = 'gone\.py:Net': .*gone\.py"),
        (METRIC + '[recipe]\ntrainer = []', r"recipe: unknown key 'trainer': 'trainer' is a key of the suite; write"),
        (METRIC + 'controls = false', r"metric\[0\]: .* no setting 'controls': .* above the first \[table\]"),
        (TRAINER + 'limit = 9\n' + METRIC, r"trainer\[0\]: trades has no setting 'limit': .* above the first"),
        (METRIC + '[gallery]\nseeds = [0]', r"unknown key 'gallery\.seeds': 'seeds' is a key of the suite"),
        ('[[metric]]\nname = "certified_accuracy"\nthreat = ["L2", "Linf"]',
         r"metric\[0\]\.threat: certified_accuracy is under L2 alone, got Linf 0\.1"),
        (TRAINER + 'beta = []\n' + METRIC, r"trainer\[0\]: beta = \[\]: an empty grid"),
        (TRAINER + GINI + 'attribution = []', r"metric\[0\]: attribution = \[\]: an empty grid"),
        ('[[metric]]\nname = "pgd"\nthreat = []', r"metric\[0\]\.threat = \[\]: an empty grid"),
        ('[[metric]]\nname = "roar"\npercents = []', r"percents = \[\]: an empty list; give one number"),
        ('[[metric]]\nname = "roar"\npercents = [[10], []]', r"percents = \[\]: an empty list"),
        ('[[metric]]\nname = "roar"\npercents = 50', r"percents = 50: give a list, as in \[50\]"),
        ('[[metric]]\nname = "pgd"\neps = 0.3', r"no setting 'eps': .*as in threat = 'Linf 0\.3'"),
        ('[[trainer]]\nname = "roar"\n' + METRIC, r"no trainer 'roar': it is a metric; .*--metric"),
        ('[[metric]]\nname = "mart"', r"no metric 'mart': it is a trainer; write it under \[\[trainer\]\]"),
        (GINI + 'attribution = "gradent"', "= 'gradent': Input should be 'gradient'"),
        ('[[trainer]]\nname = "trade"\n' + METRIC, r"no trainer 'trade' \(did you mean 'trades'\?\)"),
        (TRAINER + 'betta = 1.0\n' + METRIC, r"no setting 'betta' \(did you mean 'beta'\?\)"),
        (TRAINER + 'recipe.epoch = 1\n' + METRIC, r"unknown key 'epoch' \(did you mean 'epochs'"),
        (TRAINER + 'recipe.epochs = "x"\n' + METRIC, "epochs = 'x': Input should be a valid integer"),
        (TRAINER + 'recipe.architecture = "mpl"\n' + METRIC, r"no model 'mpl' \(did you mean 'mlp'"),
        ('model = ["file:nowhere.pt@mlp"]\n' + METRIC, "model: .*nowhere"),
        ('controls = "none"\n' + METRIC, "controls = 'none': .*valid: false, or a list of random, edge, blurred"),
        ('controls = ["sobel"]\n' + METRIC, r"controls\[0\] = 'sobel': Input should be 'random', 'edge' or"),
        ('[gallery]\nimage = 3\n' + METRIC, r"unknown key 'gallery\.image' \(did you mean 'images'"),
        ('[recipe]\nlr = [0.001, 0.01]\n' + METRIC, r"s\.toml: recipe: lr = \[0.001, 0.01\]: .* is no grid; .*"
         r"\[\[trainer\]\] for each, with recipe = \{ lr = \.\.\. \}"),
        (TRAINER + 'recipe.lr = [0.1]\n' + METRIC, r"trainer\[0\]\.recipe: lr = \[0.1\]: .* is no grid"),
        ('[recipe]\nepoch = 1\n' + METRIC, r"s\.toml: recipe: unknown key 'epoch' \(did you mean 'epochs'"),
        ('[recipe]\nnamed = "kim"\n' + METRIC, r"s\.toml: recipe: digits has no recipe named 'kim'"),
        ('[recipe]\narchitecture = "mpl"\n' + METRIC, r"^\S*s\.toml: recipe\.architecture: no model 'mpl'"),
        (TRAINER + 'threat = 0.03\n' + METRIC,
         r"s\.toml: trainer\[0\]\.threat = 0\.03: give a norm and a radius, as in 'Linf 8/255'$"),
        ('threat = 0.03\n' + METRIC, r"s\.toml: threat = 0\.03: give a norm and a radius"),
        (METRIC + 'threat = ["Linf", 0.03]\n', r"metric\[0\]\.threat = \['Linf', 0\.03\]: give a norm"),
        ('[[trainer]]\nbeta = 1\n' + METRIC, r"key 'trainer\[0\]\.name' is missing"),
        ('model = "file:x.pt"\n' + METRIC, r"model = 'file:x\.pt': give a list, as in \['file:"),
        ('metric = "pgd"\n', r"metric = 'pgd': write \[\[metric\]\]"),
        ('[retrain]\nlr = "x"\n[recipe]\nlr = 1\n' + METRIC, r"s\.toml: retrain: lr = 'x'"),
        (TRAINER + 'recipe.named = "kim"\n' + METRIC, r"trainer\[0\]\.recipe: digits has no recipe named 'kim'"),
        ('[trainer]\nname = "trades"\n' + METRIC, r"s\.toml: \[trainer\] is a table; write \[\[trainer\]\]"),
        ('[metric]\nname = "gini"', r"s\.toml: \[metric\] is a table; write \[\[metric\]\]"),
        (METRIC + '[tables.x]\ncolums = ["gini"]', r"unknown key 'tables\.x\.colums' \(did you mean 'columns'\?\)"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_explained(tmp_path, text, message):
    with pytest.raises(SuiteError, match=message) as caught:
        planned(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_suite_needs_a_model_and_a_plain_name(tmp_path):
    with pytest.raises(SuiteError, match="no model to measure"):
        planned(tmp_path, METRIC)
    for name in ("../x", "a b", ""):
        (tmp_path / "x.toml").write_text(f'name = "{name}"\n' + METRIC)
        with pytest.raises(SuiteError, match="name = "):
            read(str(tmp_path / "x.toml"))


def test_what_differs_from_the_data_sets_own_settings_is_in_the_name(tmp_path):
    """On CIFAR-10 Adv-GSCT's own setting is offend = step; the trainer's default is another name there."""
    offends = ("mask", "step", "mask+step")
    text = (
        "".join(f'[[trainer]]\nname = "adv_gsct"\noffend = "{one}"\n' for one in offends) + METRIC
    )
    (tmp_path / "s.toml").write_text(
        HEAD.replace("digits", "cifar10").replace("[0, 1]", "[0]") + text
    )
    labels = [t.label for t in plan(read(str(tmp_path / "s.toml"))).trainings]
    expected = [
        "adv_gsct (Linf 8/255, offend=mask)",
        "adv_gsct (Linf 8/255)",
        "adv_gsct (Linf 8/255, offend=mask+step)",
    ]
    assert labels == expected


def test_what_is_written_twice_is_done_once_and_two_things_of_one_name_are_refused(tmp_path):
    twice = '[[trainer]]\nname = "standard"\n' * 2 + METRIC * 2
    made = planned(tmp_path, twice + '[[metric]]\nname = "fgsm"\nthreat = ["Linf", "Linf 0.1"]\n')
    assert (len(made.trainings), len(made.cells)) == (2, 4)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text(
            'def own(case):\n    """Own.\n\n    Measures:\n        x (higher, 0..1): X.\n    """\n'
        )
    paths = [str(tmp_path / folder / "own.py") for folder in ("a", "b")]
    with pytest.raises(SuiteError, match="have one name; rename one"):
        plan(changed(read("smoke"), metrics=paths))


def test_every_method_chooses_its_checkpoint_under_a_threat():
    made = plan(read("quick"))
    assert {str(t.selection) for t in made.trainings if t.threat is None} == {"Linf 0.1"}
    assert all(t.selection == t.threat for t in made.trainings if t.threat)


def test_an_unknown_data_set_or_suite_names_the_nearest():
    with pytest.raises(SuiteError, match=r"unknown data set 'cifar' \(did you mean"):
        plan(changed(read("smoke"), dataset="cifar"))
    with pytest.raises(SuiteError, match=r"no suite 'smok' \(did you mean 'smoke'\?\)"):
        read("smok")


def test_the_command_line_selects_what_a_suite_has_and_adds_what_it_has_not(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def own(model, x, y, step): ...")
    base = read("smoke")

    def names(**options: object) -> list[str]:
        return [entry.name for entry in changed(base, **options).trainer]

    assert names(trainers=["sagr"]) == ["sagr"]
    assert names(trainers=["trades"]) == ["trades"], (
        "a name selects, with its defaults if the suite has it not"
    )
    assert names(trainers=[str(own)]) == ["standard", "pgd_at", "sagr", str(own)], "a file is added"
    assert names(trainers=["standard", str(own)]) == ["standard", str(own)]
    assert names(trainers=["none", str(own)]) == [str(own)]
    kept = changed(base, trainers=["pgd_at"]).trainer[0]
    assert kept.settings == {"steps": 5}, "the suite's settings stay"
    assert changed(base, seeds=[3, 4], limit=7).seeds == [3, 4]
    for wrong in ({"limit": 0}, {"seeds": [1, 1]}):
        with pytest.raises(SuiteError):
            changed(base, **wrong)


def test_none_leaves_the_trainers_of_a_suite_out(tmp_path):
    (tmp_path / "theirs.pt").touch()
    theirs = f"file:{tmp_path}/theirs.pt@mlp"
    made = plan(changed(read("smoke"), trainers=["none"], models=[theirs]))
    assert [training.model for training in made.trainings] == [theirs]
    held = read("smoke").model_copy(update={"model": [theirs]})
    assert plan(changed(held, trainers=["none"])).trainings == made.trainings
    with pytest.raises(
        SuiteError, match=r"--trainer none: .*smoke\.toml has no models of others.*--model"
    ):
        changed(read("smoke"), trainers=["none"])
    with pytest.raises(SuiteError, match="--trainer trades names one; give one of them"):
        changed(read("smoke"), trainers=["none", "trades"], models=[theirs])


def test_one_metric_of_a_starred_suite_can_be_chosen():
    chosen = changed(Suite(name="s", metric=[{"name": "*"}]), metrics=["gini"])
    assert [entry.name for entry in chosen.metric] == ["gini"]


def test_keys_follow_what_determines_a_result(tmp_path):
    assert keys.key(Linf(8 / 255, "8/255")) == keys.key(Linf(8 / 255)), "not how it was written"
    assert keys.key(Linf(0.1)) != keys.key(L2(0.1))
    assert keys.key("a", {"x": 1, "y": 2}) == keys.key("a", {"y": 2, "x": 1})
    path = tmp_path / "m.py"
    versions = []
    for text in (
        'def m(x):\n    """Words."""\n    return x + 1\n',
        'def m(x):  # why\n    """Other words."""\n    return x + 1\n',
        'def m(x):\n    """Words."""\n    return x + 2\n',
    ):
        path.write_text(text)
        keys.code_version.cache_clear()
        keys._code.cache_clear()
        versions.append(keys.code_version(path))
    assert versions[0] == versions[1] != versions[2]


def test_a_users_file_brings_what_it_imports_from_beside_it(tmp_path):
    (tmp_path / "own.py").write_text("from helper import SHARE\n")
    (tmp_path / "helper.py").write_text("SHARE = 0.25\n")
    before = keys.code_version(tmp_path / "own.py")
    (tmp_path / "helper.py").write_text("SHARE = 0.75\n")
    keys.code_version.cache_clear()
    keys._code.cache_clear()
    assert keys.code_version(tmp_path / "own.py") != before


def test_which_services_a_metric_uses_is_read_from_its_code():
    services = {"grade", "refit", "manifold"}
    used = {name: keys.attributes(c.path) & services for name, c in cards("metrics").items()}
    assert used["gini"] == used["clean_accuracy"] == set()
    assert used["pgd"] == used["auto_attack"] == {"grade"}
    assert used["roar"] == used["kar"] == {"refit"}
    assert used["tangent_fraction"] == {"manifold"}


def test_the_version_of_a_method_includes_the_code_it_imports():
    files = {
        path.relative_to(ROOT).as_posix() for path in keys._closure(ROOT / "trainers/trades.py")
    }
    assert {
        "trainers/trades.py",
        "trainers/base.py",
        "metrics/attacks.py",
        "metrics/threat.py",
    } <= files
    assert not any(name.startswith("benchmark") for name in files)


def test_the_ledger_has_what_a_method_is_given_by_its_data_set(tmp_path):
    path = tmp_path / "s.toml"
    two = '[[trainer]]\nname = "trades"\n[[trainer]]\nname = "standard"\n'
    path.write_text(f'name = "x"\ndataset = "mnist"\n{two}[[metric]]\nname = "clean_accuracy"\n')
    cells = plan(read(str(path))).cells
    found = {c.training.label: ledger.described(c).settings for c in cells}
    assert found == {"trades (Linf 0.3)": '{"beta": 1.0}', "standard": ""}


def test_retrain_changes_the_recipe_of_retrainings_alone(tmp_path):
    text = 'trainer = [{ name = "standard" }]\nmetric = [{ name = "roar" }]\n[recipe]\nepochs = 3\n'
    plain = planned(tmp_path, text).trainings[0]
    low = planned(tmp_path, f'{text}[retrain]\nprecision = "bfloat16"\n').trainings[0]
    assert (plain.reference.precision, low.reference.precision) == ("float32", "bfloat16")
    assert low.recipe == plain.recipe
    assert (low.reference.epochs, low.reference.keep) == (3, "last")
    with pytest.raises(
        SuiteError, match=r"retrain: unknown key 'precison' .did you mean 'precision'"
    ):
        planned(tmp_path, f'{text}[retrain]\nprecison = "bfloat16"\n')
