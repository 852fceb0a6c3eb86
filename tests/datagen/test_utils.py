"""The flags of all generators, and the model that they mean."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from model_servers import Server, status

from helpers.datagen import InputValidationError, add_generation_args, create_engine_from_args, engines
from helpers.datagen.utils import spell_both

FLAGS = """--engine --model --stage --limit --input-dir --output-dir --tasks-input --target-repo --no-upload --engine-config --endpoint-json
--disable-verification --sandbox-cpu --sandbox-memory-gb --sandbox-disk-gb --sandbox-gpu --trace-input-path --trace-target-repo
--trace-output-dir --trace-model --trace-agent-name --trace-agent-kwargs --trace-n-concurrent --trace-env --trace-engine --trace-backend
--trace-use-gpu --trace-agent-timeout-sec --trace-verifier-timeout-sec --trace-export-filter --trace-jobs-dir --trace-eval-only""".split()
VALUES = {
    "--stage": "both",
    "--trace-agent-kwargs": '{"a": 1}',
    "--trace-env": "apptainer",
    "--trace-backend": "vllm",
    "--trace-export-filter": "success",
}
HEAVY = "requests pydantic yaml pandas numpy pyarrow click rich jinja2 huggingface_hub urllib3 asyncio http.client"


def parse(*argv: str) -> argparse.Namespace:
    return add_generation_args(argparse.ArgumentParser(allow_abbrev=False)).parse_args(argv)


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_is_spelled_both_ways(flag: str) -> None:
    name = flag[2:].replace("-", "_")
    words = (
        []
        if flag in ("--no-upload", "--public", "--disable-verification", "--trace-use-gpu", "--trace-eval-only")
        else [VALUES.get(flag, "3")]
    )
    one, two = (vars(parse(spelled, *words))[name] for spelled in (flag, f"--{name}"))
    assert one == two and one not in (None, False)
    assert vars(parse(f"--{name}={words[0]}"))[name] == one if words else True


def test_help_shows_one_spelling_and_own_options_have_both(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_generation_args(parser)
    parser.add_argument_group("own").add_argument("--top_k", type=int)
    spell_both(parser)
    assert parser.parse_args(["--top-k", "3"]).top_k == parser.parse_args(["--top_k", "3"]).top_k == 3
    text = parser.format_help()
    assert "--input-dir" in text and "--input_dir" not in text and "--top_k" in text and "harbor" not in text


def test_an_option_that_a_generator_replaces_is_replaced_in_both_spellings() -> None:
    parser = argparse.ArgumentParser(conflict_handler="resolve")
    add_generation_args(parser)
    parser.add_argument("--output-dir", type=int)
    spell_both(parser)
    assert (
        parser.parse_args(["--output_dir", "3"]).output_dir == parser.parse_args(["--output-dir", "3"]).output_dir == 3
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--limit", "0"], "argument --limit: must be a whole number of at least 1, not '0'"),
        (["--limit", "many"], "argument --limit: must be a whole number of at least 1, not 'many'"),
        (["--stage", "none"], "argument --stage: invalid choice: 'none'"),
        (
            ["--trace-agent-kwargs", "[1]"],
            "argument --trace-agent-kwargs: the value: must hold an object, found a list",
        ),
        (["--trace-agent-kwargs", "{"], "argument --trace-agent-kwargs: the value: not valid JSON"),
        (["--trace-env", "daytona"], "argument --trace-env: 'daytona' is not here: sandboxes are Apptainer containers"),
        (["--trace_harbor_config", "x.yaml"], "Harbor's job files are not read here: say it with --trace-agent-name"),
        (["--trace-export-subagents"], "expected one argument"),
        (["--trace-agent-timeout-sec", "nan"], "must be a number of seconds, not 'nan'"),
        (["--sandbox_cpu", "-1"], "argument --sandbox-cpu: must be a whole number of at least 1"),
    ],
)
def test_what_is_wrong_is_told(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    if argv == ["--trace-export-subagents"]:
        argv, words = [*argv, "true"], "agents have no subagents here: leave it away"
    with pytest.raises(SystemExit) as ended:
        parse(*argv)
    assert ended.value.code == 2 and words in capsys.readouterr().err


def endpoint(tmp_path: Path, url: str = "http://127.0.0.1:9") -> str:
    file = tmp_path / "endpoint.json"
    file.write_text(json.dumps({"endpoint_url": url, "model_name": "told"}))
    return str(file)


def made(*argv: str) -> dict[str, Any]:
    with create_engine_from_args(parse(*argv)) as engine:
        return {"kind": type(engine), **engine.get_metadata()}


def test_the_model_that_flags_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = endpoint(tmp_path)
    assert (
        made()["kind"] is engines.NoOpEngine
        and made("--engine", "none", "--model", "30b")["kind"] is engines.NoOpEngine
    )
    assert made("--endpoint-json", file)["model"] == "told"
    assert made("--endpoint_json", file, "--model", "mine")["model"] == "mine"
    told = made("--endpoint-json", file, "--model", "30b")
    assert (told["model"], told["name"], told["revision"]) == ("qwen3-30b", "30b", "main")
    assert made("--engine", "vllm_local", "--model", "30b", "--endpoint-json", file) == told
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert made("--model", "gpt-mini")["model"] == "gpt-4.1-mini"
    assert made("--engine", "openai", "--model", "gpt-x")["model"] == "gpt-x"
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    assert made("--model", "gemini-flash")["kind"] is engines.GenericOpenAIEngine


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model", "31b"], "model '31b': not in site-config/models.yaml. Known models: 30b"),
        (["--model", "30b"], "model '30b' is served by a job of ours: --endpoint-json names the file"),
        (["--engine", "opnai"], "engine 'opnai': there is none of this type; known: anthropic, "),
        (["--engine", "openai", "--endpoint-json", "f"], "--endpoint-json is for --engine vllm_local, not for openai"),
        (["--engine", "vllm_local", "--model", "x"], "needs the file of an endpoint"),
        (["--engine-config", "nowhere.yaml"], "nowhere.yaml: can't be read"),
    ],
)
def test_models_that_cannot_be(argv: list[str], words: str) -> None:
    with pytest.raises(InputValidationError, match=words):
        made(*argv)


def config(tmp_path: Path, text: str) -> str:
    (tmp_path / "datagen.yaml").write_text(text)
    return str(tmp_path / "datagen.yaml")


def test_upstreams_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"choices": [{"message": {"content": "x"}}]}
    with Server(status(200, answer)) as server:
        file = config(
            tmp_path,
            f"engine:\n  type: vllm_local\n  model: other\n  max_output_tokens: 64\n  request_params: {{temperature: 0.2}}\n"
            f"  vllm_local: {{base_url: '{server.url}', model_name: mine, api_key: fake_key}}\n"
            "backend: {type: vllm}\nvllm_server: {model_path: a/b}\nchunk_array_max: 3\n",
        )
        monkeypatch.setenv("DATAGEN_CONFIG_PATH", file)
        with create_engine_from_args(parse()) as engine:
            assert engine.generate("a") == "x" and engine.healthcheck_interval == 300
            body = server.requests[0][2]
            assert (body["model"], body["max_tokens"], body["temperature"]) == ("mine", 64, 0.2)
        assert made("--model", "third")["model"] == "third"
        assert made("--endpoint-json", endpoint(tmp_path))["model"] == "mine"
    monkeypatch.setenv("MY_KEY", "k")
    assert (
        made("--engine-config", config(tmp_path, "engine: {type: anthropic, anthropic: {api_key_env: MY_KEY}}"))["kind"]
        is engines.AnthropicEngine
    )
    assert (
        made("--engine-config", config(tmp_path, "engine: {type: google_gemini, openai: {api_key_env: MY_KEY}}"))[
            "kind"
        ]
        is engines.GeminiEngine
    )
    assert made("--engine-config", config(tmp_path, "engine: {type: none}"))["kind"] is engines.NoOpEngine


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("engine: {type: x}", "datagen.yaml: engine.type: 'x' is none of anthropic, "),
        (
            "engine: {type: openai, openai: {api_key: sk-123}}",
            "engine.openai.api_key: a key doesn't belong into a file",
        ),
        (
            "engine: {typ: openai}\nmore: 1",
            "engine.type: field required; engine.typ: extra inputs are not permitted; more: ",
        ),
        ("{", "not valid YAML"),
        ("engine: {type: openai, max_output_tokens: 0}", "engine.max_output_tokens: input should be greater than"),
    ],
)
def test_yaml_that_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputValidationError, match=words) as caught:
        made("--engine-config", config(tmp_path, text))
    assert "sk-123" not in str(caught.value)


def test_nothing_heavy_is_imported_for_help() -> None:
    program = (
        "import sys; from helpers.datagen import BaseDataGenerator, add_generation_args, gpu_required, GenerationResult\n"
        "class G(BaseDataGenerator):\n    def run_task_generation(self, request, context): ...\n"
        "try: G().main(['--help'])\nexcept SystemExit: pass\n"
        f"print('HEAVY', sorted(set('{HEAVY}'.split()) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--trace-model" in done.stdout and "HEAVY []" in done.stdout
