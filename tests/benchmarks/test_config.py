"""configs/*.toml: the specification's form, what may stand beside it, and every mistake at once."""

import pytest

from helpers.benchmarks import config
from helpers.lib.errors import ConfigError

SPECIFIED = """
name = "my_benchmark"
parallel = 4

[[tasks]]
prepared_dir = "data/tasks/prepared/task_1"
model = "gpt-4"
rollouts = 3
apply_overrides = true
overrides = "data/tasks/prepared/task_1/overrides.json"

[[tasks]]
prepared_dir = "data/tasks/prepared/task_2"
model = "claude-3-sonnet"
rollouts = 5
apply_overrides = false
environment_variables = { "TIMEOUT_SEC" = "1800" }

[[tasks]]
prepared_dir = "data/tasks/prepared/task_3"
model = "gpt-3.5-turbo"
"""


@pytest.fixture
def read(tmp_path):
    def one(text, name="some", **aliases):
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return config.read(path, aliases)

    return one


def problems(read, text):
    with pytest.raises(ConfigError) as raised:
        read(text)
    return [said.partition("some.toml: ")[2] for said in raised.value.problems]


def test_the_specifications_own(read):
    made = read(SPECIFIED, **{"gpt-4": "replay"})
    assert (made.name, made.parallel, made.retries) == ("my_benchmark", 4, 2)
    assert [entry.limit for entry in made.tasks] == [None, 1800, None]
    found = config.rollouts(made)
    assert [(one.task[-6:], one.model, one.seed, one.entry) for one in found[:4]] == [
        *(("task_1", "replay", seed, 0) for seed in range(3)),
        ("task_2", "claude-3-sonnet", 0, 1),
    ]
    assert len(found) == 9 and found[-1].agent is None and len({(one.cell, one.seed) for one in found}) == 9


def test_a_name_is_the_files_where_none_is_given(read):
    assert read('[[tasks]]\ntask = "a"\n', "nightly").name == "nightly"
    assert problems(read, 'name = "temp"\n[[tasks]]\ntask = "a"\n') == [
        "name: 'temp' is taken: give the benchmark another name (found 'temp')."
    ]


def test_lists_are_multiplied_out_and_equal_entries_add_up(read):
    text = '[[tasks]]\ntasks = ["a", "b", "a"]\nmodels = ["x", "y"]\nagents = ["p", "q"]\nrollouts = 2\n'
    assert len(config.rollouts(read(text))) == 2 * 2 * 2 * 2
    same = '[[tasks]]\ntask = "a"\nrollouts = 2\n'
    assert [one.seed for one in config.rollouts(read(same * 3))] == [0, 1, 2, 3, 4, 5]
    other = same + '[[tasks]]\ntask = "a"\nrollouts = 2\nseed = 10\n' + same
    assert [one.seed for one in config.rollouts(read(other))] == [0, 1, 10, 11, 2, 3]
    apart = same + '[[tasks]]\ntask = "a"\nenvironment_variables = {DEPTH = 3}\n'
    assert [(one.seed, one.variables) for one in config.rollouts(read(apart))][2] == (0, (("DEPTH", "3"),))
    # an alias is the model that it names
    aliased = '[models]\n"gpt-4" = "replay"\n[[tasks]]\ntask = "a"\nmodels = ["gpt-4", "replay"]\n'
    assert [one.model for one in config.rollouts(read(aliased))] == ["replay"]


def test_every_mistake_is_told_at_once_with_its_place(read):
    text = """
paralel = 3
retries = -1
[budget]
gpu_hours = 0
[[tasks]]
task = "a"
[[tasks]]
task = "a"
tasks = ["b"]
[[tasks]]
task = "a"
rollouts = 0
modl = "x"
environment_variables = { SUBMISSION_DIR = "/x" }
[[tasks]]
task = "a"
model = "x"
models = ["y"]
"""
    said = problems(read, text)
    assert (
        "paralel: unknown key. Keys here: budget, models, name, parallel, replicas, retries, tasks. Did you mean parallel?"
        in said
    )
    assert any(one.startswith("retries: ") and one.endswith("(found -1).") for one in said)
    assert any(one.startswith("budget.gpu_hours: ") for one in said)
    assert (
        "[[tasks]] 2: needs one of `prepared_dir` (a prepared task's folder), `task` (its id) and `tasks` (a list)."
        in said
    )
    assert any(one.startswith("[[tasks]] 3: rollouts: ") for one in said)
    assert any(
        one.startswith("[[tasks]] 3: modl: unknown key. ") and one.endswith("Did you mean model?") for one in said
    )
    assert any("SUBMISSION_DIR carries what jobs tell agents" in one for one in said)
    assert "[[tasks]] 4: has both `model` and `models`: give one of them." in said
    assert len(said) == 8


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ('{AGENT_DIR = "x"}', "AGENT_DIR carries what jobs tell agents"),
        ('{GRADING_SERVER = "x"}', "GRADING_SERVER carries what jobs tell agents"),
        ('{MY_TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"}', "MY_TOKEN looks like a secret"),
        ('{TIMEOUT_SEC = "soon"}', "TIMEOUT_SEC is a rollout's time limit"),
        ("{TIMEOUT_SEC = 0}", "TIMEOUT_SEC is a rollout's time limit"),
        ('{"a b" = "x"}', "should match pattern"),
    ],
)
def test_variables_that_cannot_be(read, variables, said):
    [one] = problems(read, f'[[tasks]]\ntask = "a"\nenvironment_variables = {variables}\n')
    assert said in one and "hf_abc" not in one


def test_what_is_no_file_of_ours(read, tmp_path):
    assert problems(read, "[[tasks]\n")[0].startswith("is no TOML: ")
    assert problems(read, 'name = "x"\n') == ["tasks: must be set."]
    for path, said in ((tmp_path / "none.toml", "there is no such file"), (tmp_path, "can't be read: Is a directory")):
        with pytest.raises(ConfigError, match=said):
            config.read(path)
