"""The traces that a generator makes of its tasks, unless it says otherwise: by the benchmark runner, with any configured agent."""

from __future__ import annotations

from typing import Any

from helpers.datagen.schemas import GenerationContext, GenerationRequest, GenerationResult, InputValidationError

# arguments of run_dataset_to_traces, by the flags that set them
SETTINGS = {
    "agent_name": "trace_agent_name",
    "agent_kwargs": "trace_agent_kwargs",
    "n_concurrent": "trace_n_concurrent",
    "jobs_dir": "trace_jobs_dir",
    "env_type": "trace_env",
    "agent_timeout_sec": "trace_agent_timeout_sec",
    "verifier_timeout_sec": "trace_verifier_timeout_sec",
    "export_filter": "trace_export_filter",
    "endpoint_json": "endpoint_json",
    "override_cpus": "sandbox_cpu",
    "override_memory_gb": "sandbox_memory_gb",
    "override_storage_gb": "sandbox_disk_gb",
    "override_gpus": "sandbox_gpu",
}


def run_traces(
    request: GenerationRequest, context: GenerationContext, tasks: GenerationResult | None
) -> GenerationResult | str:
    """Run agents over tasks as the flags of traces say. Raises TraceFailure, and InputValidationError where there are no tasks."""
    from helpers.datagen.commons import run_dataset_to_traces

    path = tasks.dataset_path if tasks is not None else request.tasks_input
    if not path:
        raise InputValidationError("there are no tasks to make traces of: --tasks-input DIR names them")
    made = run_dataset_to_traces(path, **settings(context))
    return made if isinstance(made, GenerationResult) else str(made)


def settings(context: GenerationContext) -> dict[str, Any]:
    """What the flags say of the runs; what they leave open isn't named."""
    args = context.args
    found = {name: getattr(args, flag, None) for name, flag in SETTINGS.items()}
    found["model_name"] = getattr(args, "trace_model", None) or getattr(args, "model", None)
    if getattr(args, "trace_use_gpu", False):
        found["override_gpus"] = found["override_gpus"] or 1
    given = {name: value for name, value in found.items() if value is not None}
    for name, flag in (("disable_verification", "disable_verification"), ("eval_only", "trace_eval_only")):
        if getattr(args, flag, False):
            given[name] = True
    return given
