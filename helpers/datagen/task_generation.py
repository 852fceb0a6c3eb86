"""Many seeds of a generator at a time: one that fails is a result like the others, with its error and its traceback in a file.

The executor runs them in threads of this process; one for hosted sandboxes would have the same `run`.
"""

from __future__ import annotations

import copy
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.datagen.schemas import InputValidationError

GRACE = 5.0  # seconds that seeds under way have to end after Ctrl-C


@dataclass(frozen=True)
class TaskGenerationSpec:
    """One seed: where its tasks go, how they are called, and where its records lie."""

    seed: int
    output_dir: Path
    dataset_prefix: str
    jobs_dir: Path
    dataset_index: int | None = None


@dataclass
class TaskGenerationResult:
    """What became of a seed. exception_path: the file of the traceback; error: what was raised."""

    spec: TaskGenerationSpec
    success: bool
    dataset_dir: Path | None = None
    artifacts: dict[str, Any] = field(default_factory=dict)
    exception_path: Path | None = None
    error: BaseException | None = None


class TaskGenerationExecutor:
    """Calls `generate_fn` for many seeds, at most `max_concurrent` at a time."""

    def __init__(
        self,
        base_args: Any,
        max_concurrent: int = 1,
        generate_fn: Callable[[Any], Any] | None = None,
        *,
        abort: Callable[[], None] | None = None,
    ):
        """generate_fn: gets a copy of base_args with seed, output, dataset_prefix, teacher_jobs_dir and dataset_index of its seed, and
        returns the folder of its tasks, or that and a dict of artifacts. abort: makes those under way end soon (an engine's `close`).
        """
        if generate_fn is None:
            raise InputValidationError("generate_fn: says how the tasks of a seed are made, and is missing")
        if max_concurrent < 1:
            raise InputValidationError(f"max_concurrent: must be at least 1, not {max_concurrent}")
        self.base_args, self.max_concurrent, self.generate_fn, self.abort = (
            base_args,
            max_concurrent,
            generate_fn,
            abort,
        )
        self._lock = threading.Lock()

    def run(self, specs: Iterable[TaskGenerationSpec]) -> list[TaskGenerationResult]:
        """The results in the order of the seeds, once all have ended. At Ctrl-C no further one begins, and KeyboardInterrupt goes on."""
        waiting = list(enumerate(specs))[::-1]
        results: dict[int, TaskGenerationResult] = {}
        count = min(self.max_concurrent, len(waiting))
        # daemons: a seed that hears nothing must not keep Python from its end
        threads = [threading.Thread(target=self._work, args=(waiting, results), daemon=True) for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            with self._lock:
                waiting.clear()
            if self.abort is not None:
                self.abort()
            limit = time.monotonic() + GRACE
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, limit - time.monotonic()))
            raise
        return [results[number] for number in sorted(results)]

    def _work(self, waiting: list[tuple[int, TaskGenerationSpec]], results: dict[int, TaskGenerationResult]) -> None:
        while True:
            with self._lock:
                if not waiting:
                    return
                number, spec = waiting.pop()
            results[number] = self._one(spec)

    def _one(self, spec: TaskGenerationSpec) -> TaskGenerationResult:
        try:
            with self._lock:
                args = copy.deepcopy(self.base_args)
            for name, value in _of(spec).items():
                setattr(args, name, value)
            for folder in (spec.output_dir, spec.jobs_dir):
                folder.mkdir(parents=True, exist_ok=True)
            made = self.generate_fn(args)
            path, artifacts = made if isinstance(made, tuple) else (made, {})
            return TaskGenerationResult(spec, True, _finished(Path(path), spec.output_dir), dict(artifacts or {}))
        except BaseException as error:  # of one seed, in its own thread: the others go on
            return TaskGenerationResult(spec, False, exception_path=_kept(error, spec), error=error)


DaytonaTaskGenerationExecutor = TaskGenerationExecutor  # the specification's name; the sandboxes are ours


def _of(spec: TaskGenerationSpec) -> dict[str, Any]:
    return {
        "seed": spec.seed,
        "output": str(spec.output_dir),
        "dataset_prefix": spec.dataset_prefix,
        "teacher_jobs_dir": str(spec.jobs_dir),
        "dataset_index": spec.dataset_index,
    }


def _finished(made: Path, output_dir: Path) -> Path:
    """Where the tasks lie in the end: moved to output_dir, unless they were made there."""
    if made.resolve() == output_dir.resolve() or output_dir.resolve() in made.resolve().parents:
        return made
    from helpers.datagen.commons import finalize_dataset_output

    if not any(output_dir.iterdir()):
        output_dir.rmdir()
    return Path(finalize_dataset_output(made, output_dir))


def _kept(error: BaseException, spec: TaskGenerationSpec) -> Path | None:
    path = spec.jobs_dir / f"seed-{spec.seed}-exception.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None  # a full disk may be what it failed of
    return path
