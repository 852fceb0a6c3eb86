"""What a site, a model and an agent are: every key with its type. What it means stands in site-config/*.yaml."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from helpers.lib.checkout import ROOT
from helpers.lib.errors import ConfigError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Scheduler(Strict):
    kind: Literal["slurm", "local"]
    account: str | None
    qos: str | None
    reservation: str | None
    constraint: str | None
    request_memory: bool
    extra_sbatch: list[str]


class Partition(Strict):
    name: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    extra_sbatch: list[str]


class Partitions(Strict):
    cpu: Partition
    gpu: Partition


class Gpu(Strict):
    request: str | None
    per_node: int = Field(ge=0)
    whole_node: bool
    vendor: Literal["nvidia", "amd"]
    kind: str


def _clock(value: Any) -> Any:
    # YAML 1.1 reads an unquoted 24:00:00 as the number of its seconds
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value // 3600:02d}:{value % 3600 // 60:02d}:{value % 60:02d}"
    return value


Duration = Annotated[str, Field(pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$"), BeforeValidator(_clock)]


class GradingJob(Strict):
    cpus: int = Field(ge=1)
    memory_gb: int = Field(ge=1)
    time: Duration


class ModelServerJob(Strict):
    time: Duration


class AgentJob(Strict):
    cpus: int = Field(ge=1)
    memory_gb: int = Field(ge=1)
    time_limit: int = Field(ge=1)


class Jobs(Strict):
    grading_server: GradingJob
    model_server: ModelServerJob
    agent: AgentJob
    prepare: GradingJob


class Environment(Strict):
    modules: list[str]
    setup: list[str]
    variables: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], str]
    proxy: str | None
    no_proxy: list[str]
    ca_bundle: str | None
    offline: bool

    def exports(self) -> dict[str, str]:
        """What jobs export of it, by name."""
        return dict(sorted(self.variables.items(), key=lambda item: item[0].lower())) | self._own_proxies()

    def proxies(self, given: Mapping[str, str]) -> dict[str, str]:
        """http_proxy, https_proxy and no_proxy for a program that reaches the internet: the site's, else those given."""

        def own(name: str) -> str | None:
            return given.get(name) or given.get(name.upper())

        proxies = self._own_proxies() or {name: value for name in ("http_proxy", "https_proxy") if (value := own(name))}
        direct = [*self.no_proxy, *filter(None, (own("no_proxy") or "").split(","))]
        if not proxies and not direct:
            return {}
        return proxies | {"no_proxy": ",".join(dict.fromkeys([*direct, "localhost", "127.0.0.1"]))}

    def _own_proxies(self) -> dict[str, str]:
        return dict.fromkeys(("http_proxy", "https_proxy"), self.proxy) if self.proxy else {}


class Paths(Strict):
    data: str
    runs: str
    notebooks: str | None
    rollouts: str | None
    tasks: str | None
    models: str
    containers: str
    address_dir: str
    scratch: Annotated[str, Field(pattern=r"^[\w./${}:~-]+$")]


class Container(Strict):
    runtime: Literal["apptainer", "singularity", "none"]
    binds: list[Annotated[str, Field(pattern=r"^/[^:,]*(:/[^:,]*(:ro|:rw)?)?$")]]
    extra_flags: list[str]
    fakeroot: bool
    python_base: str
    vllm_base: str
    vllm_rocm_base: str
    vllm_packages: list[str]
    bases: dict[str, str]
    pip_index_url: str | None


class Network(Strict):
    interface: str | None
    ports: tuple[Annotated[int, Field(ge=1024, le=65535)], Annotated[int, Field(ge=1024, le=65535)]]

    @field_validator("ports")
    @classmethod
    def _ordered(cls, ports: tuple[int, int]) -> tuple[int, int]:
        if ports[0] >= ports[1]:
            raise ValueError("ports must be [lowest, highest]")
        return ports


class Limits(Strict):
    grace_seconds: int = Field(ge=1)
    idle_server_minutes: int = Field(ge=1)
    max_submit: int | None
    max_array_size: int | None
    gpu_idle_minutes: int | None
    confirm_gpu_hours: float = Field(ge=0)
    upload_mb: int = Field(ge=1)
    judgement_seconds: int = Field(ge=1)
    judgement_mb: int = Field(ge=1)
    run_gb: float = Field(gt=0)
    run_files: int = Field(ge=1)


class Site(Strict):
    """A cluster, resolved: all layers merged, variables expanded, paths absolute (but `paths.scratch`, left to the job)."""

    name: Annotated[str, Field(pattern=NAME)]
    description: str
    hostname_pattern: str | None
    sources: list[str]
    scheduler: Scheduler
    partitions: Partitions
    gpu: Gpu
    jobs: Jobs
    environment: Environment
    paths: Paths
    container: Container
    network: Network
    limits: Limits
    models: dict[str, dict[str, Any]]

    @property
    def isolated(self) -> bool:
        """Whether agents run in containers, without sight of the answers."""
        return self.container.runtime != "none"

    def weights_advice(self, model: Model) -> str | None:
        """What to do where a model's weights are incomplete; None where its job can fetch them."""
        if Path(str(model.repo)).is_absolute():
            return "copy what is missing there, or set its `repo`"
        if not self.environment.offline:
            return None
        command = f"scripts_hpc/models.sh download {model.name} --site {self.name}"
        return f"compute nodes of site {self.name} are offline. On a login node: {command}"

    @contextlib.contextmanager
    def reading(self, subject: str) -> Iterator[None]:
        """Around what looks at prepared data: what can't be read is a ConfigError about the subject."""
        try:
            yield
        except OSError as error:
            where = f"{error.filename or self.paths.data} can't be read: {error.strerror}"
            raise ConfigError([f"{subject}: {where} (paths.data of site {self.name})."]) from error

    def role(self, role: str) -> dict[str, Any]:
        """Scheduler options of a partition role ("cpu" or "gpu"): the role's own values over the scheduler's."""
        own = getattr(self.partitions, role)
        common = self.scheduler
        return {
            "partition": own.name,
            "account": own.account or common.account,
            "qos": own.qos or common.qos,
            "constraint": own.constraint or common.constraint,
            "reservation": common.reservation,
            "extra": [*common.extra_sbatch, *own.extra_sbatch],
        }


class Model(Strict):
    """A model by its short name; see site-config/models.yaml for the keys."""

    name: Annotated[str, Field(pattern=NAME)]
    engine: Literal["vllm", "replay", "external"]
    served_name: str
    repo: str | None = None
    revision: str = "main"
    gpus: int = Field(default=0, ge=0)
    tensor_parallel: int = Field(default=1, ge=1)
    cpus: int = Field(default=1, ge=1)
    memory_gb: int = Field(default=4, ge=1)
    context_length: int = Field(default=32768, ge=256)
    gpu_memory_fraction: float = Field(default=0.92, gt=0, le=1)
    tool_parser: str | None = None
    vllm_args: list[str] = []
    load_minutes: int = Field(default=30, ge=1)
    steps: int | None = Field(default=None, ge=1)
    base_url: str | None = None
    api_key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    usd_per_million_prompt_tokens: float | None = Field(default=None, ge=0)
    usd_per_million_completion_tokens: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> Model:
        if self.engine == "vllm" and not self.repo:
            raise ValueError("engine vllm needs `repo`, a Hugging Face repository or a folder of weights")
        if self.engine == "vllm" and self.gpus and self.tensor_parallel > self.gpus:
            raise ValueError(f"tensor_parallel {self.tensor_parallel} needs at least as many gpus, not {self.gpus}")
        if self.engine == "external" and not self.base_url:
            raise ValueError("engine external needs `base_url`")
        if (self.usd_per_million_prompt_tokens is None) != (self.usd_per_million_completion_tokens is None):
            raise ValueError(
                "needs both usd_per_million_prompt_tokens and usd_per_million_completion_tokens, or neither"
            )
        return self

    @property
    def prices(self) -> tuple[float, float] | None:
        """USD for a million tokens of prompts, and of answers; None where it isn't known. A server of ours takes GPU-hours alone."""
        if self.usd_per_million_prompt_tokens is None or self.usd_per_million_completion_tokens is None:
            return None if self.engine == "external" else (0.0, 0.0)
        return self.usd_per_million_prompt_tokens, self.usd_per_million_completion_tokens

    @property
    def is_language_model(self) -> bool:
        return self.engine != "replay"

    @property
    def needs_tokenizer(self) -> bool:
        """Whether the tokenizer must lie beside the weights."""
        others = ("--tokenizer", "--skip-tokenizer-init")
        return not any(argument.partition("=")[0] in others for argument in self.vllm_args)

    @property
    def most_requests(self) -> int | None:
        """How many requests its server works on at once by its vllm_args, the rest waits; None: by vLLM's own default.

        That is 1024 on GPUs of 70 GiB and more, but for A100s, 256 on others, 128 on CPUs (get_batch_defaults in vLLM's
        engine/arg_utils.py, since 0.8.4): more than there are agents, as a rule.
        """
        found = None
        for argument, following in zip(self.vllm_args, [*self.vllm_args, ""][1:], strict=True):
            name, equals, value = argument.partition("=")
            value = value if equals else following
            if name.replace("_", "-") == "--max-num-seqs" and value.isdecimal():
                found = int(value)
        return found

    def crowd_note(self, agents: int) -> str | None:
        """That some of so many agents wait for the others' answers, where vllm_args bound the requests; None where they don't."""
        most = self.most_requests
        if most is None or agents <= most:
            return None
        return (
            f"the server of model '{self.name}' works on at most {most} requests at once (--max-num-seqs in its vllm_args), and "
            f"{agents} agents may ask it: the others wait."
        )


class AgentEntry(Strict):
    """An agent by its short name, "agent" or "agent/variant"; see site-config/agents.yaml for the keys."""

    name: Annotated[str, Field(pattern=f"{NAME[:-1]}(/{NAME[1:-1]})?$")]
    image: str
    folder: str = "command"
    environment: Annotated[str, Field(pattern=NAME)] = "aide"
    command: str | None = None
    description: str = ""
    needs_model: bool = True
    feedback_model: str | None = None
    steps: int = Field(default=500, ge=1)
    time_limit: int | None = Field(default=None, ge=1)
    takes_script: bool = False
    variables: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], str] = {}
    variants: dict[Annotated[str, Field(pattern=NAME)], dict[str, Any]] = {}

    @model_validator(mode="after")
    def _runnable(self) -> AgentEntry:
        if (self.folder == "command") != (self.command is not None):
            raise ValueError("needs either `folder` (a folder below templates/agents) or `command` (a line of shell)")
        return self

    @property
    def path(self) -> Path:
        """Folder of the agent's files; a relative one lies below templates/agents."""
        return ROOT / "templates" / "agents" / self.folder

    @property
    def file_name(self) -> str:
        """The name as a part of file names."""
        return self.name.replace("/", "-")
