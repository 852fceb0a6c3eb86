"""What goes through a generator: the request, the context of its hooks, the result, and what may go wrong, with its exit code."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

ASKED_WRONGLY, BROKE = 2, 3  # exit codes: of what a person can mend in the command, and of what it met


class GenerationStage(str, Enum):
    """When something went wrong."""

    prepare = "prepare"
    generate = "generate"
    postprocess = "postprocess"


class GenerationStatus(str, Enum):
    """How a generation ended; partial: some of it is there, and metadata tells what isn't."""

    success = "success"
    failed = "failed"
    partial = "partial"


@dataclass
class GenerationRequest:
    """What a person asks a generator for. stage: tasks, traces or both; limit: tasks that go on to the traces, None for all."""

    engine_type: str | None = None
    engine_kwargs: dict[str, Any] = field(default_factory=dict, repr=False)  # may hold a key
    input_dir: str | None = None
    target_repo: str | None = None
    output_dir: str | None = None
    tasks_input: str | None = None
    stage: str = "tasks"
    metadata: dict[str, Any] = field(default_factory=dict)
    raw_args: argparse.Namespace | None = field(default=None, repr=False)
    limit: int | None = None


@dataclass
class GenerationResult:
    """What came out: the folder or file of the data set, the repository that it was uploaded to, and what else to tell of it."""

    dataset_path: str | None
    status: GenerationStatus = GenerationStatus.success
    uploaded_repo: str | None = None
    artifacts: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class GenerationContext:
    """What the hooks of a generator work with. engine: an InferenceEngine, None where no model was asked for; temp_dir: removed in the
    end."""

    args: argparse.Namespace
    request: GenerationRequest
    engine: Any
    temp_dir: Path
    logger: logging.Logger
    services: dict[str, Any] = field(default_factory=dict)
    stage: str = "tasks"


class GenerationError(Exception):
    """A generation can't go on; the message is one sentence for the person who asked. code: the exit code; cause: what was raised."""

    def __init__(
        self, message: str, *, stage: GenerationStage | str, cause: BaseException | None = None, code: int = BROKE
    ):
        super().__init__(message)
        self.stage, self.cause, self.code = GenerationStage(stage), cause, code


class InputValidationError(GenerationError):
    """What was asked for can't be done as it was asked; exit code 2."""

    def __init__(self, message: str, cause: BaseException | None = None):
        super().__init__(message, stage=GenerationStage.prepare, cause=cause, code=ASKED_WRONGLY)


class InferenceFailure(GenerationError):
    """A model gave no answer; exit code 3."""

    def __init__(self, message: str, cause: BaseException | None = None):
        super().__init__(message, stage=GenerationStage.generate, cause=cause)


class TraceFailure(GenerationError):
    """Traces could not be made, or not exported; exit code 3."""

    def __init__(self, message: str, cause: BaseException | None = None):
        super().__init__(message, stage=GenerationStage.postprocess, cause=cause)


class UploadFailure(GenerationError):
    """A data set could not be uploaded; exit code 3."""

    def __init__(self, message: str, cause: BaseException | None = None):
        super().__init__(message, stage=GenerationStage.postprocess, cause=cause)
