"""`--model-set`: a model's entry, changed for one run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helpers.config import entries, sites
from helpers.config.schema import Model, Site
from helpers.jobs import model_set
from helpers.lib.errors import ConfigError

KEYS = [key for key in Model.model_fields if key not in ("name", "engine")]


@pytest.fixture
def site() -> Site:
    return sites.load_site("local")


@pytest.fixture
def changed(site: Site) -> Callable[..., Model]:
    def change(*items: str) -> Model:
        model_set.apply(site, "30b", items)
        return entries.model("30b", site)

    return change


def test_a_model_is_changed_for_this_site_alone(changed: Callable[..., Model], site: Site) -> None:
    model = changed("context_length=16384", "vllm_args=--max-num-seqs 64 --dtype 'bf 16'", "tool_parser=")
    assert (model.context_length, model.tool_parser) == (16384, None)
    assert model.vllm_args == ["--max-num-seqs", "64", "--dtype", "bf 16"]
    assert model.repo == "Qwen/Qwen3-30B-A3B-Instruct-2507"
    assert site.model_dump()["models"]["30b"]["context_length"] == 16384
    assert entries.models()["30b"].context_length == 32768


def test_it_goes_over_what_the_site_says(changed: Callable[..., Model], site: Site) -> None:
    site.models = {"30b": {"cpus": 3, "gpus": 4}}
    model = changed("gpus=2", "gpus=3")
    assert (model.cpus, model.gpus) == (3, 3)


def test_a_list_may_be_written_as_yaml(changed: Callable[..., Model]) -> None:
    assert changed('vllm_args=["--a b", "-c"]').vllm_args == ["--a b", "-c"]
    assert changed("vllm_args=").vllm_args == []


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (
            ["contxt_length=1"],
            f"--model-set contxt_length: unknown key; a model has these keys: {', '.join(KEYS)}. Did you mean context_length?",
        ),
        (["engine=replay"], f"--model-set engine: unknown key; a model has these keys: {', '.join(KEYS)}."),
        (["gpus"], "--model-set gpus: must be KEY=VALUE, for example --model-set context_length=16384."),
        (
            ["context_length=many"],
            "--model-set context_length: Input should be a valid integer, unable to parse string as an integer (found 'many').",
        ),
        (["context_length=1"], "--model-set context_length: Input should be greater than or equal to 256 (found 1)."),
        (["vllm_args=[1]"], "--model-set vllm_args: Input should be a valid string (found 1)."),
        (["vllm_args='--a"], '--model-set vllm_args: No closing quotation (found "\'--a").'),
        (
            ["tensor_parallel=2"],
            "--model-set tensor_parallel of model 30b: tensor_parallel 2 needs at least as many gpus, not 1.",
        ),
    ],
)
def test_what_is_wrong_is_told(changed: Callable[..., Model], items: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        changed(*items)
    assert raised.value.problems == [said]


def test_all_problems_are_told_at_once(changed: Callable[..., Model]) -> None:
    with pytest.raises(ConfigError) as raised:
        changed("a=1", "b")
    assert len(raised.value.problems) == 2


def test_a_run_that_starts_no_model_can_change_none(site: Site) -> None:
    with pytest.raises(ConfigError, match="starts none"):
        model_set.apply(site, None, ["gpus=1"])
    model_set.apply(site, None, [])


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ("", None),
        ("--max-num-seqs 8", 8),
        ("--max-num-seqs=8 --enforce-eager", 8),
        ("--max_num_seqs 8", 8),
        ("--max-num-seqs 64 --max-num-seqs=2", 2),  # vLLM takes the last
        ("--max-num-seqs", None),
        ("--max-num-seqs many", None),
        ("--max-num-seqs-of-another 8", None),
    ],
)
def test_a_bound_on_the_requests_of_a_server_is_known(changed: Callable[..., Model], arguments: str, most: int) -> None:
    model = changed(f"vllm_args={arguments}")
    assert model.most_requests == most
    assert model.crowd_note(most or 10_000) is None
    if most:
        assert model.crowd_note(most + 1) == (
            f"the server of model '30b' works on at most {most} requests at once (--max-num-seqs in its vllm_args), and "
            f"{most + 1} agents may ask it: the others wait."
        )
