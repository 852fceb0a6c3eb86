"""A generator from its command line to its exit code; what other modules make of its results is a stand-in here."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from model_servers import Server, echo, status

from helpers.datagen import (
    BaseDataGenerator,
    GenerationContext,
    GenerationRequest,
    GenerationResult,
    GenerationStatus,
    InferenceFailure,
    InputValidationError,
    TraceFailure,
    gpu_required,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """What is asked of commons, in order."""
    made: list[tuple[Any, ...]] = []
    commons: Any = ModuleType("helpers.datagen.commons")

    def finalize_dataset_output(folder: Path, output_dir: Path) -> Path:
        made.append(("finalize", folder.name, str(output_dir)))
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, output_dir)
        return output_dir

    def run_dataset_to_traces(path: str, **options: Any) -> str:
        made.append(("traces", sorted(one.name for one in Path(path).iterdir()), options))
        return "traces.parquet"

    commons.finalize_dataset_output, commons.run_dataset_to_traces = finalize_dataset_output, run_dataset_to_traces
    for kind in ("tasks", "traces"):
        setattr(
            commons,
            f"upload_{kind}_to_hf",
            lambda path, repo, *, public, kind=kind: made.append((f"upload {kind}", str(path), repo, public)),
        )
    monkeypatch.setitem(sys.modules, "helpers.datagen.commons", commons)
    monkeypatch.delenv("DATAGEN_CONFIG_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    return made


class Plain(BaseDataGenerator):
    """Makes three tasks, in the temporary folder."""

    parser_description = "Three tasks."
    seen: GenerationContext

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tasks_count", type=int, default=3)

    def _build_request_metadata(self, args: argparse.Namespace) -> dict[str, Any]:
        return {"count": args.tasks_count}

    def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> Any:
        self.seen = context
        for number in range(context.args.tasks_count):
            folder = context.temp_dir / "made" / f"t-{number:04d}"
            folder.mkdir(parents=True)
            (folder / "instruction.md").write_text("do")
        return context.temp_dir / "made"


def test_tasks_are_made_moved_and_told(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    generator = Plain()
    assert generator.main(["--output_dir", "out", "--tasks-count", "2"]) == 0
    assert capsys.readouterr() == ("out\n", "")
    assert sorted(os.listdir("out")) == ["t-0000", "t-0001"] and calls == [("finalize", "made", "out")]
    assert not generator.seen.temp_dir.exists() and generator.seen.engine is None
    secret = Plain()
    secret.add_arguments = lambda parser: parser.add_argument("--hub-token")  # type: ignore[method-assign]
    secret.run_task_generation = lambda request, context: "x"  # type: ignore[method-assign]
    secret._build_request_metadata = lambda args: {}  # type: ignore[method-assign]
    told = secret.run(["--hub-token", "hf_" + "a" * 34])
    assert told.metadata["request"]["arguments"]["hub_token"] == "***"
    result = Plain().run(["--output-dir", "out2"])
    assert result.metadata["request"] == {
        "count": 3,
        "arguments": {"stage": "tasks", "output_dir": "out2", "tasks_count": 3},
    }
    assert Plain().run([]).dataset_path == "outputs/tasks/made"


def test_both_stages_with_a_limit_between(calls: list[Any]) -> None:
    argv = [
        "--stage",
        "both",
        "--limit",
        "2",
        "--output-dir",
        "out",
        "--target-repo",
        "o/tasks",
        "--trace-target-repo",
        "o/traces",
    ]
    argv += [
        "--trace-model",
        "replay",
        "--trace-agent-name",
        "mini-swe",
        "--trace-agent-kwargs",
        '{"a": 1}',
        "--trace-n-concurrent",
        "4",
    ]
    argv += [
        "--trace-use-gpu",
        "--sandbox-memory-gb",
        "8",
        "--disable-verification",
        "--trace-export-filter",
        "success",
    ]
    result = Plain().run(argv)
    assert calls == [
        ("finalize", "made", "out"),
        ("upload tasks", "out", "o/tasks", False),
        (
            "traces",
            ["t-0000", "t-0001"],
            {
                "agent_name": "mini-swe", "agent_kwargs": {"a": 1}, "n_concurrent": 4, "model_name": "replay", "override_gpus": 1,
                "override_memory_gb": 8, "disable_verification": True, "export_filter": "success",
            },
        ),
        ("upload traces", "traces.parquet", "o/traces", False),
    ]  # fmt: skip
    assert result.dataset_path == "traces.parquet" and result.artifacts == {"tasks": "out"}
    assert result.uploaded_repo == "o/traces" and len(os.listdir("out")) == 3


def test_traces_of_tasks_that_are_there(calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tasks" / "a").mkdir(parents=True)
    generator = Plain()
    assert (
        generator.main(
            ["--stage", "traces", "--tasks-input", "tasks", "--target-repo", "o/r", "--no-upload", "--model", "30b"]
        )
        == 0
    )
    assert calls == [("traces", ["a"], {"model_name": "30b"})] and not hasattr(generator, "seen")
    calls.clear()
    assert (
        generator.main(
            ["--stage", "traces", "--trace-input-path", "tasks", "--target-repo", "o/r", "--trace-eval-only"]
        )
        == 0
    )
    assert calls == [("traces", ["a"], {"eval_only": True})]
    capsys.readouterr()
    assert generator.main(["--stage", "traces"]) == 2
    assert capsys.readouterr().err == "error: --stage traces needs the tasks to run: --tasks-input DIR\n"


def test_a_hook_may_upload_and_move_itself(calls: list[Any]) -> None:
    class Own(Plain):
        default_target_repo = "o/default"

        def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> GenerationResult:
            assert request.target_repo == "o/default"
            return GenerationResult("somewhere", uploaded_repo="o/mine")

        def run_trace_generation(self, request: Any, context: Any, task_result: Any) -> str:
            assert task_result.uploaded_repo == "o/mine"
            return "mine.parquet"

    assert Own().run(["--stage", "both"]).dataset_path == "mine.parquet" and not calls


class Asks(BaseDataGenerator):
    """Makes its tasks with a model."""

    RETRY_DELAY = 0.2
    HEALTHCHECK_MAX_ATTEMPTS = 5

    @gpu_required
    def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> Any:
        assert context.engine is not None
        Path("made").mkdir()
        for number, text in context.engine.generate_many(["a", "b"], answers="answers.jsonl"):
            Path("made", f"{number}.txt").write_text(text)
        return "made"


def endpoint(url: str) -> None:
    Path("new.json").write_text(json.dumps({"endpoint_url": url, "model_name": "m"}))
    os.replace("new.json", "endpoint.json")


def test_a_model_is_waited_for_and_noted(capsys: pytest.CaptureFixture[str]) -> None:
    with Server(status(500), echo) as server:
        endpoint(server.url)
        result = Asks().run(["--endpoint-json", "endpoint.json"])
        assert Path("made", "1.txt").read_text() == "B" and result.metadata["engine"]["usage"]["answers"] == 2
        assert server.requests[0][2]["max_tokens"] == 1
    shutil.rmtree("made")
    with Server() as server:
        Path("endpoint.json").unlink()
        publisher = subprocess.Popen(
            [
                "sh",
                "-c",
                f'sleep 0.5; echo \'{{"endpoint_url": "{server.url}", "model_name": "m"}}\' >new; mv new endpoint.json',
            ]
        )
        assert Asks().main(["--endpoint-json", "endpoint.json"]) == 0
        assert publisher.wait() == 0
    said = capsys.readouterr().err
    assert (
        "endpoint.json: can't be read (No such file or directory): its server is gone, or not ready yet; trying again in 0.2 s"
        in said
    )


def test_a_model_that_is_needed_or_dead(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # what else logs, for instance a library that has set up all loggers, says nothing a second time
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(sys.stderr)])
    assert Asks().main([]) == 2
    assert capsys.readouterr().err == "error: Asks makes its tasks with a model: name one with --model or --engine\n"
    with Server(status(401)) as server:
        endpoint(server.url)
        began = time.monotonic()
        assert Asks().main(["--endpoint-json", "endpoint.json"]) == 3 and time.monotonic() - began < 0.5
        assert "refuses: HTTP 401" in capsys.readouterr().err and len(server.requests) == 1
    assert Asks().main(["--endpoint-json", "endpoint.json"]) == 3
    said = capsys.readouterr().err.splitlines()
    assert (
        len(said) == 5
        and said[-1].startswith("error: vllm_local model 'm' at ")
        and said[-1].endswith("connection refused; tried 5 times")
    )
    assert not Asks().requires_engine_for_stage("traces") and Asks().requires_engine_for_stage("both")
    assert not Plain().requires_engine_for_stage("both")


def raising(error: BaseException) -> BaseDataGenerator:
    class Raises(BaseDataGenerator):
        def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> Any:
            raise error

    return Raises()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputValidationError("no such source"), 2, "error: no such source\n"),
        (InferenceFailure("it is dead\x1b[1m"), 3, "error: it is dead [1m\n"),
        (TraceFailure("two\nlines"), 3, "error: two lines\n"),
        (FileNotFoundError(2, "No such file or directory", "x.csv"), 2, "error: x.csv: No such file or directory\n"),
        (OSError(28, "No space left on device", "out"), 3, "error: out: No space left on device\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (MemoryError(), 3, "error: this machine hasn't enough memory for it\n"),
    ],
)
def test_exit_codes(error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(error).main([]) == code and capsys.readouterr().err == said


def test_a_generators_own_error_names_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    class Wrong(BaseDataGenerator):
        def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> Any:
            return json.loads("{")

    assert Wrong().main([]) == 1
    said = capsys.readouterr().err
    assert (
        said.startswith("error: JSONDecodeError: ")
        and "test_base.py, line " in said
        and "in run_task_generation)" in said
    )

    class Nothing(BaseDataGenerator):
        def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> Any:
            return None

    assert Nothing().main([]) == 2
    assert (
        "Nothing.run_task_generation must return a path or a GenerationResult, not NoneType" in capsys.readouterr().err
    )


def test_failed_and_partial(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    class Ends(BaseDataGenerator):
        how = GenerationStatus.failed

        def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> Any:
            return GenerationResult("some", self.how, metadata={"error": "its source is empty"})

    generator = Ends()
    assert generator.main(["--stage", "both", "--target-repo", "o/r"]) == 1 and not calls
    assert capsys.readouterr() == ("", "error: the generation failed: its source is empty\n")
    generator.how = GenerationStatus.partial
    assert generator.main([]) == 0 and capsys.readouterr() == ("some\n", "only a part of it was made\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_by_a_signal_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    script, temporary = tmp_path / "generate.py", tmp_path / "tmp"
    temporary.mkdir()
    script.write_text(
        "import sys\nfrom helpers.datagen import BaseDataGenerator\n"
        "class G(BaseDataGenerator):\n    def run_task_generation(self, request, context):\n"
        "        (context.temp_dir / 'half').write_text('x')\n"
        "        return list(context.engine.generate_many(map(str, range(99)), concurrency=4))\n"
        "sys.exit(G().main())\n"
    )
    with Server(echo, lambda handler, _: handler.server.over.wait(30)) as server:
        endpoint(server.url)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
        with subprocess.Popen(
            [sys.executable, str(script), "--endpoint-json", "endpoint.json"],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while len(server.requests) < 5:
                time.sleep(0.02)
            process.send_signal(number)
            assert process.communicate(timeout=10)[1] == "error: interrupted\n" and process.returncode == 130
    assert not list(temporary.iterdir())
