"""A generator: its command line, its request, its model, its stages. A subclass says how tasks are made; all else may stay as it is."""

from __future__ import annotations

import argparse
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.datagen import utils
from helpers.datagen.decorators import MARK
from helpers.datagen.schemas import (
    GenerationContext,
    GenerationRequest,
    GenerationResult,
    GenerationStatus,
    InferenceFailure,
    InputValidationError,
)

if TYPE_CHECKING:
    from helpers.datagen.engines import InferenceEngine

Made = GenerationResult | str | Path


class BaseDataGenerator(ABC):
    """A subclass has run_task_generation, marked with @gpu_required where it needs a model server of ours, and ends its file with
    `sys.exit(Generator().main())`."""

    parser_description = ""
    default_target_repo: str | None = None
    default_input_dir: str | None = None
    default_engine: str | None = None
    HEALTHCHECK_MAX_ATTEMPTS = 20
    RETRY_DELAY = 30.0  # seconds between two of them

    def __init__(self) -> None:
        self.logger = logging.getLogger(f"datagen.{type(self).__name__}")

    # what a subclass may override

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add a generator's own options."""
        return None

    def _build_request_metadata(self, args: argparse.Namespace) -> dict[str, Any]:
        """What to note of a request besides."""
        return {}

    @abstractmethod
    def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> Made:
        """Make tasks, in a folder: its path is a result, too. What lies in context.temp_dir is moved to --output-dir afterwards."""

    def run_trace_generation(
        self, request: GenerationRequest, context: GenerationContext, task_result: GenerationResult | None
    ) -> Made:
        """Run agents over tasks, those of task_result, or of --tasks-input. Raises TraceFailure, InputValidationError."""
        from helpers.datagen.traces import run_traces

        return run_traces(request, context, task_result)

    def requires_engine_for_stage(self, stage: str) -> bool:
        """Whether a stage can't be without a model: where tasks are made by one. (The agents of traces ask theirs themselves.)"""
        marked = getattr(self.run_task_generation, MARK, False) or getattr(type(self), MARK, False)
        return bool(marked) and stage in ("tasks", "both")

    # the run

    def build_parser(self) -> argparse.ArgumentParser:
        """The flags of all generators, and a generator's own, which may replace them."""
        parser = argparse.ArgumentParser(
            description=self.parser_description or None, conflict_handler="resolve", allow_abbrev=False
        )
        utils.add_generation_args(
            parser,
            default_target_repo=self.default_target_repo,
            default_input_dir=self.default_input_dir,
            default_engine=self.default_engine,
        )
        self.add_arguments(parser)
        return utils.spell_both(parser)

    def parse_args(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """The arguments of the command line. Raises SystemExit, as argparse does."""
        return self.build_parser().parse_args(argv)

    def build_request(self, args: argparse.Namespace) -> GenerationRequest:
        """The request that arguments mean. Raises InputValidationError."""
        tasks_input = args.tasks_input or args.trace_input_path
        if args.stage == "traces" and not tasks_input:
            raise InputValidationError("--stage traces needs the tasks to run: --tasks-input DIR")
        kinds = {"model": args.model, "endpoint_json": args.endpoint_json, "engine_config": args.engine_config}
        return GenerationRequest(
            engine_type=args.engine,
            engine_kwargs={name: value for name, value in kinds.items() if value},
            input_dir=args.input_dir,
            target_repo=args.target_repo,
            output_dir=args.output_dir,
            tasks_input=tasks_input,
            stage=args.stage,
            metadata={"arguments": utils.shown(args), **self._build_request_metadata(args)},
            raw_args=args,
            limit=args.limit,
        )

    def build_context(
        self,
        args: argparse.Namespace,
        request: GenerationRequest,
        engine: InferenceEngine | None,
        temp_dir: Path,
    ) -> GenerationContext:
        """What the hooks work with."""
        return GenerationContext(args, request, engine, temp_dir, self.logger, stage=request.stage)

    def run(self, argv: Sequence[str] | None = None) -> GenerationResult:
        """Do what the command line asks for; its result. Raises GenerationError, and what the hooks raise."""
        import tempfile

        args = self.parse_args(argv)
        request = self.build_request(args)
        engine = self._initialise_engine(args, request)
        try:
            with tempfile.TemporaryDirectory(prefix="datagen-") as folder:
                result = self._run_stages(request, self.build_context(args, request, engine, Path(folder)))
            if engine is not None:
                result.metadata.setdefault("engine", engine.get_metadata())
            result.metadata.setdefault("request", request.metadata)
            return result
        finally:
            if engine is not None:
                engine.close()

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run as a command: the path of the result on standard output, what goes wrong as one sentence; the exit code."""
        from helpers.datagen import command

        return command.run(self.run, self.logger, argv)

    def _run_stages(self, request: GenerationRequest, context: GenerationContext) -> GenerationResult:
        tasks = None
        if request.stage != "traces":
            context.stage = "tasks"
            tasks = self._kept(self._result(self.run_task_generation(request, context), "run_task_generation"), context)
            if tasks.status is GenerationStatus.failed:
                return tasks
            self._upload(tasks, request.target_repo, context)
            if request.stage == "tasks":
                return tasks
        context.stage = "traces"
        limited = self._limited(tasks, request, context)
        made = self._result(self.run_trace_generation(request, context, limited), "run_trace_generation")
        traces = self._kept(made, context)
        if not context.args.trace_eval_only and traces.status is not GenerationStatus.failed:
            repo = context.args.trace_target_repo or (request.target_repo if request.stage == "traces" else None)
            self._upload(traces, repo, context)
        if tasks is not None:
            traces.artifacts.setdefault("tasks", tasks.dataset_path)
        return traces

    def _limited(
        self, tasks: GenerationResult | None, request: GenerationRequest, context: GenerationContext
    ) -> GenerationResult:
        """The tasks that the traces are made of: --limit of them at most."""
        from helpers.datagen.limits import limit_tasks_directory

        given = tasks or GenerationResult(request.tasks_input)
        if request.limit is None or given.dataset_path is None:
            return given
        prefix = Path(given.dataset_path).name
        path = limit_tasks_directory(given.dataset_path, request.limit, dataset_prefix=prefix, folder=context.temp_dir)
        return replace(given, dataset_path=str(path))

    def _result(self, made: Made, hook: str) -> GenerationResult:
        if isinstance(made, GenerationResult):
            return made
        if isinstance(made, (str, Path)):
            return GenerationResult(str(made))
        raise InputValidationError(
            f"{type(self).__name__}.{hook} must return a path or a GenerationResult, not {type(made).__name__}"
        )

    def _kept(self, result: GenerationResult, context: GenerationContext) -> GenerationResult:
        """The result, moved out of the folder that is removed: to --output-dir, or into the folder `outputs` here."""
        if result.dataset_path is None:
            return result
        made = Path(result.dataset_path)
        if context.temp_dir.resolve() not in made.resolve().parents:
            return result
        from helpers.datagen.commons import finalize_dataset_output

        args = context.args
        given = (
            args.output_dir
            if context.stage == "tasks"
            else args.trace_output_dir or (args.output_dir if args.stage == "traces" else None)
        )
        place = Path(given) if given else Path("outputs", context.stage, made.name)
        return replace(result, dataset_path=str(finalize_dataset_output(made, place)))

    def _upload(self, result: GenerationResult, repo: str | None, context: GenerationContext) -> None:
        """Upload a result that no hook has uploaded itself, where there is a repository for it."""
        if not repo or context.args.no_upload or result.uploaded_repo or result.dataset_path is None:
            return
        from helpers.datagen.commons import upload_tasks_to_hf, upload_traces_to_hf

        upload = upload_tasks_to_hf if context.stage == "tasks" else upload_traces_to_hf
        more = {}
        if told := result.metadata.get("provenance"):
            from helpers.datagen.dataset_card import Provenance

            more["provenance"] = Provenance.here(context.stage, **told)
        upload(result.dataset_path, repo, public=context.args.public, **more)
        result.uploaded_repo = repo

    def _initialise_engine(self, args: argparse.Namespace, request: GenerationRequest) -> InferenceEngine | None:
        """The model, once it answers; None where the stage needs none. Raises InputValidationError, InferenceFailure."""
        if request.stage == "traces":
            return None
        asked = utils.asks_for_engine(args)
        if self.requires_engine_for_stage(request.stage) and not asked:
            raise InputValidationError(
                f"{type(self).__name__} makes its tasks with a model: name one with --model or --engine"
            )
        engine = utils.create_engine_from_args(args) if asked else None
        request.engine_type = engine.type_name if engine is not None else request.engine_type
        if engine is None or not engine.requires_initial_healthcheck:
            return engine
        try:
            self._await(engine)
        except BaseException:
            engine.close()
            raise
        return engine

    def _await(self, engine: InferenceEngine) -> None:
        for attempt in range(1, self.HEALTHCHECK_MAX_ATTEMPTS + 1):
            health = engine.state()
            if health.state != "dead":
                return
            if health.is_final or attempt == self.HEALTHCHECK_MAX_ATTEMPTS:
                tried = f"; tried {attempt} times" if attempt > 1 else ""
                raise InferenceFailure(f"{health.words}{tried}")
            self.logger.info("%s; trying again in %g s", health.words, self.RETRY_DELAY)
            time.sleep(self.RETRY_DELAY)
