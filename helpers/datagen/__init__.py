"""Data generation: pipelines that make tasks of an upstream source, and traces of what agents did on them.

Runs where a person types, and in the jobs of the launcher. Whatever a generator needs is importable from here
(`from helpers.datagen import BaseDataGenerator`); nothing is imported before it is used, so that `--help` comes at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# each public name, and the module here that has it
NAMES = {
    "BaseDataGenerator": "base",
    "GenerationStage": "schemas",
    "GenerationStatus": "schemas",
    "GenerationRequest": "schemas",
    "GenerationResult": "schemas",
    "GenerationContext": "schemas",
    "GenerationError": "schemas",
    "InputValidationError": "schemas",
    "InferenceFailure": "schemas",
    "TraceFailure": "schemas",
    "UploadFailure": "schemas",
    "InferenceEngine": "engines",
    "OpenAIEngine": "engines",
    "AnthropicEngine": "engines",
    "GenericOpenAIEngine": "engines",
    "GeminiEngine": "engines",
    "NoOpEngine": "engines",
    "create_inference_engine": "engines",
    "from_model": "engines",
    "gpu_required": "decorators",
    "needs_gpu": "decorators",
    "limit_tasks_directory": "limits",
    "limit_trace_jobs_directory": "limits",
    "TaskGenerationSpec": "task_generation",
    "TaskGenerationResult": "task_generation",
    "TaskGenerationExecutor": "task_generation",
    "DaytonaTaskGenerationExecutor": "task_generation",
    "add_generation_args": "utils",
    "create_engine_from_args": "utils",
    "create_task_directory_unified": "commons",
    "generate_tasks_from_questions": "commons",
    "subsample_tasks_directory": "commons",
    "finalize_dataset_output": "commons",
    "run_dataset_to_traces": "commons",
    "upload_tasks_to_hf": "commons",
    "upload_traces_to_hf": "commons",
    "download_hf_dataset": "commons",
}
__all__ = list(NAMES)


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMES])
