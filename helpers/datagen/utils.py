"""The flags that all generators share, and the model that they ask for. Nothing heavy is imported before a flag asks for it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from helpers.datagen.schemas import InputValidationError

if TYPE_CHECKING:
    from helpers.datagen.engines import InferenceEngine

STAGES = ("tasks", "traces", "both")
FILTERS = ("success", "failure", "none")
ENGINE_GIVEN = ("engine", "model", "engine_config", "endpoint_json")
SANDBOXES = ("apptainer",)


def add_generation_args(
    parser: argparse.ArgumentParser,
    *,
    default_target_repo: str | None = None,
    default_input_dir: str | None = None,
    default_engine: str | None = None,
) -> argparse.ArgumentParser:
    """Add the flags of all generators to a parser; each may be written with `-` or `_`."""
    add = parser.add_argument_group("generation").add_argument
    add("--stage", choices=STAGES, default="tasks", help="what to make (default: %(default)s)")
    add("--limit", type=positive, metavar="N", help="so many tasks at most")
    add("--input-dir", default=default_input_dir, metavar="DIR", help="what the tasks are made of")
    add("--output-dir", metavar="DIR", help="where the result goes")
    add("--tasks-input", metavar="DIR", help="tasks that are there already, for --stage traces")
    add(
        "--target-repo",
        default=default_target_repo,
        metavar="OWNER/NAME",
        help="the Hugging Face repository to upload to",
    )
    add("--no-upload", action="store_true", help="upload nothing")
    add("--public", action="store_true", help="what is uploaded may be seen by everybody")
    add("--disable-verification", action="store_true", help="don't try tasks with their own solutions")
    _add_model_args(parser, default_engine)
    _add_trace_args(parser)
    _add_sandbox_args(parser)
    return spell_both(parser)


def _add_model_args(parser: argparse.ArgumentParser, default_engine: str | None) -> None:
    add = parser.add_argument_group("model").add_argument
    add(
        "--engine",
        default=default_engine,
        metavar="TYPE",
        help="openai, anthropic, vllm_local, gemini_openai, google_gemini or none",
    )
    add(
        "--model",
        metavar="NAME",
        help="a model of site-config/models.yaml; with --engine, the name that the service knows",
    )
    add(
        "--engine-config",
        default=os.environ.get("DATAGEN_CONFIG_PATH"),
        metavar="FILE",
        help="YAML with both ($DATAGEN_CONFIG_PATH)",
    )
    add(
        "--endpoint-json",
        metavar="FILE",
        help="where a running server answers: an endpoint JSON, or an address file of ours",
    )


def _add_sandbox_args(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("sandboxes of tasks").add_argument
    for name, metavar, words in (
        ("cpu", "N", "CPU cores"),
        ("memory-gb", "GB", "memory"),
        ("disk-gb", "GB", "disk"),
        ("gpu", "N", "GPUs"),
    ):
        add(
            f"--sandbox-{name}", type=positive, metavar=metavar, help=f"{words} of each, in place of what the task says"
        )


def _add_trace_args(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("traces").add_argument
    add("--trace-input-path", metavar="DIR", help="the same as --tasks-input")
    add("--trace-output-dir", metavar="DIR", help="where the traces go (default: --output-dir)")
    add("--trace-target-repo", metavar="OWNER/NAME", help="the repository to upload them to (default: --target-repo)")
    add("--trace-jobs-dir", metavar="DIR", help="where the runs lie")
    add("--trace-model", metavar="NAME", help="the model of the agents (default: --model)")
    add("--trace-agent-name", metavar="NAME", help="the agent, of site-config/agents.yaml")
    add("--trace-agent-kwargs", type=json_object, metavar="JSON", help="settings of the agent, an object")
    add("--trace-n-concurrent", type=positive, metavar="N", help="so many runs at a time")
    add("--trace-engine", metavar="TYPE", help="as --engine, for the agents' model")
    add("--trace-backend", choices=("vllm", "none"), help="what serves the agents' model")
    add("--trace-env", type=_sandbox, metavar="KIND", help=f"what runs are isolated by: {', '.join(SANDBOXES)}")
    add("--trace-use-gpu", action="store_true", help="runs get a GPU")
    add("--trace-agent-timeout-sec", type=_seconds, metavar="S", help="of the agent, in place of what the task says")
    add("--trace-verifier-timeout-sec", type=_seconds, metavar="S", help="of its test, the same")
    add("--trace-export-filter", choices=FILTERS, help="which runs become rows")
    add("--trace-eval-only", action="store_true", help="run and grade, export and upload nothing")
    add("--trace-harbor-config", type=_harbor_only, help=argparse.SUPPRESS)
    add("--trace-export-subagents", nargs="?", const="", type=_no_subagents, help=argparse.SUPPRESS)


def spell_both(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let each long option of a parser be written with `-` as well as with `_`; its help shows the one that it was added with."""
    own = {name: action for action in parser._actions for name in action.option_strings if name.startswith("--")}
    for name, action in own.items():
        for other in ("--" + name[2:].replace("_", "-"), "--" + name[2:].replace("-", "_")):
            if other not in own:
                parser._option_string_actions[other] = action
    return parser


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return number


def json_object(text: str) -> dict[str, Any]:
    """A JSON object, for argparse."""
    from helpers.lib import strict_json
    from helpers.lib.errors import ConfigError

    try:
        return strict_json.parse(text, "the value")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(error.problems[0].rstrip(".")) from None


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, not {text!r}")
    return number


def _sandbox(text: str) -> str:
    if text.lower() not in SANDBOXES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not here: sandboxes are Apptainer containers ({', '.join(SANDBOXES)})"
        )
    return text.lower()


def _harbor_only(text: str) -> str:
    raise argparse.ArgumentTypeError(
        "Harbor's job files are not read here: say it with --trace-agent-name, --trace-n-concurrent and others"
    )


def _no_subagents(text: str) -> str:
    raise argparse.ArgumentTypeError("agents have no subagents here: leave it away")


def asks_for_engine(args: argparse.Namespace) -> bool:
    """Whether a person named a model, or a type of it."""
    return any(getattr(args, name, None) for name in ENGINE_GIVEN)


def create_engine_from_args(args: argparse.Namespace) -> InferenceEngine:
    """The model that --engine, --model, --endpoint-json and --engine-config mean, in this order of strength; `none` where none was named.

    Raises InputValidationError.
    """
    from helpers.datagen import engine_config, engines

    given = {name: getattr(args, name, None) for name in ENGINE_GIVEN}
    config = engine_config.read(given["engine_config"]) if given["engine_config"] else engine_config.Runtime()
    type_, model = given["engine"] or config.type, given["model"] or config.model
    endpoint, options = given["endpoint_json"] or config.endpoint, dict(config.options)
    site = getattr(args, "site", None) or os.environ.get("HPC_SITE")
    if type_ is None and (model is None or endpoint and not engines.is_known(model, site)):
        type_ = "vllm_local" if endpoint else "none"
    if type_ == "none":
        return engines.create_inference_engine(type_)
    if type_ is None or type_ == "vllm_local" and "base_url" not in options and engines.is_known(model, site):
        return engines.from_model(model, site, endpoint=endpoint, **options)
    if endpoint and type_ != "vllm_local":
        raise InputValidationError(f"--endpoint-json is for --engine vllm_local, not for {type_}")
    return engines.create_inference_engine(
        type_, model=model, **options, **({"endpoint_json": endpoint} if endpoint else {})
    )


def shown(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments as they may be noted: those that are set, and JSON, without secrets."""
    from helpers.lib import private

    given = {name: value for name, value in vars(args).items() if value not in (None, False) and _is_json(value)}
    masked: dict[str, Any] = private.masked(given)
    return masked


def _is_json(value: Any) -> bool:
    import json  # which takes a tenth of the time of --help

    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
