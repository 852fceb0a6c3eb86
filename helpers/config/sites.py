"""Site, model and agent configuration: layers of YAML, merged, expanded, checked; every problem is reported at once."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from helpers.lib import private
from helpers.lib.checkout import ROOT
from helpers.lib.errors import ConfigError

SITE_DIR = ROOT / "site-config"
OWN_TASKS = ROOT / "tasks"  # the user's own tasks, where the site names no other folder (paths.tasks)
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)")
# Expanded by the job on its own node, not here: the login node's values would be wrong there.
LEFT_TO_THE_JOB = {("paths", "scratch"), ("environment", "setup")}
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
        proxies = dict.fromkeys(("http_proxy", "https_proxy"), self.proxy) if self.proxy else {}
        return dict(sorted(self.variables.items(), key=lambda item: item[0].lower())) | proxies


class Paths(Strict):
    data: str
    runs: str
    notebooks: str | None
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

    @model_validator(mode="after")
    def _complete(self) -> Model:
        if self.engine == "vllm" and not self.repo:
            raise ValueError("engine vllm needs `repo`, a Hugging Face repository or a folder of weights")
        if self.engine == "vllm" and self.gpus and self.tensor_parallel > self.gpus:
            raise ValueError(f"tensor_parallel {self.tensor_parallel} needs at least as many gpus, not {self.gpus}")
        if self.engine == "external" and not self.base_url:
            raise ValueError("engine external needs `base_url`")
        return self

    @property
    def is_language_model(self) -> bool:
        return self.engine != "replay"

    @property
    def needs_tokenizer(self) -> bool:
        """Whether the tokenizer must lie beside the weights."""
        others = ("--tokenizer", "--skip-tokenizer-init")
        return not any(argument.partition("=")[0] in others for argument in self.vllm_args)


class AgentEntry(Strict):
    """An agent by its short name, "agent" or "agent/variant"; see site-config/agents.yaml for the keys."""

    name: Annotated[str, Field(pattern=f"{NAME[:-1]}(/{NAME[1:-1]})?$")]
    image: str
    folder: str = "command"
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


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ConfigError when it can't be read, isn't YAML or isn't a mapping."""
    try:
        # the loader in C, where PyYAML has it, saves a command a tenth of its start
        data = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise ConfigError([f"{shown(path)}: can't be read ({error.strerror})."]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = f" (line {error.problem_mark.line + 1})" if getattr(error, "problem_mark", None) else ""
        raise ConfigError([f"{shown(path)}: not valid YAML{where}: {getattr(error, 'problem', error)}."]) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError([f"{shown(path)}: must hold `key: value` lines, found a {type(data).__name__}."])
    return data


def shown(path: Path) -> str:
    """A path as a person would name it: relative to the repository where it lies inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


class Layers:
    """Merges mappings key by key and remembers which layer set each value."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.origin: dict[tuple[str, ...], str] = {}

    def add(self, data: dict[str, Any], source: str) -> None:
        self._merge(self.tree, data, source, ())

    def _merge(self, into: dict[str, Any], data: dict[str, Any], source: str, at: tuple[str, ...]) -> None:
        for key, value in data.items():
            here = (*at, str(key))
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                self._merge(into[key], value, source, here)
            else:
                into[key] = _copy(value)
                self.origin[here] = source

    def source_of(self, location: tuple[str, ...]) -> str:
        """The layer that set a value, or the nearest one above it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.origin:
                return self.origin[location[:length]]
        return shown(SITE_DIR / "default.yaml")


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return list(value) if isinstance(value, list) else value


def dotenv(name: str) -> str | None:
    """The value of a key in .env, None where it has none; scripts_hpc/lib/common.sh reads it by the same rule (common::key)."""
    try:
        text = (ROOT / ".env").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.findall(rf"^(?:export +)?{name}=(.*)$", text, re.MULTILINE)
    value = found[-1].removesuffix("\r") if found else ""
    return (value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value) or None


def _open_secrets(layers: Layers, value: Any, at: tuple[str, ...] = ()) -> Iterator[str]:
    """A sentence on each value of a file, as written there, that looks like a secret; references to variables are none."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _open_secrets(layers, item, (*at, str(key)))
    elif isinstance(value, list):
        for item in value:
            yield from _open_secrets(layers, item, at)
    elif isinstance(value, str) and private.is_secret(at[-1] if at else "", VARIABLE.sub("", value)):
        source = layers.source_of(at)
        if not source.startswith(("$", "--set ", "models of site ")):  # none of these is a file
            yield (
                f"{source}: {'.'.join(at)}: looks like a secret, which others can read there: write ${{NAME}} in its place, and "
                f"NAME=… into {ROOT}/.env, or into your environment."
            )


def expand(value: str) -> tuple[str, list[str]]:
    """Replace ${NAME}, ${NAME:-default}, $NAME and a leading ~; also returns the names that are not set."""
    missing: list[str] = []

    def one(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        found = os.environ.get(name, getpass.getuser() if name == "USER" else dotenv(name))
        if match[2] is not None:
            return found or match[2]
        if found is not None:
            return found
        missing.append(name)
        return match[0]

    text = VARIABLE.sub(one, value)
    return (os.path.expanduser(text) if text.startswith("~") else text), missing


def _expand_tree(layers: Layers, value: Any, at: tuple[str, ...], problems: list[str]) -> Any:
    if at in LEFT_TO_THE_JOB:
        return value
    if isinstance(value, dict):
        return {key: _expand_tree(layers, item, (*at, str(key)), problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand_tree(layers, item, at, problems) for item in value]
    if not isinstance(value, str):
        return value
    text, missing = expand(value)
    if value and not text:
        return None  # a variable that is set to nothing
    for name in dict.fromkeys(missing):
        key = ".".join(at)
        problems.append(
            f"{layers.source_of(at)}: {key}: ${{{name}}} is not set: export {name}=…, or give --set {key}=…"
        )
    return text


def _override_pairs(overrides: list[str]) -> list[tuple[list[str], str, str]]:
    pairs = []
    for name, value in os.environ.items():
        if name.startswith("HPC_") and "__" in name:
            pairs.append((name[4:].lower().split("__"), value, f"${name}"))
    for item in overrides:
        key, separator, value = item.partition("=")
        if not separator:
            raise ConfigError([f"--set {item}: must be key=value, for example --set paths.data=/scratch/me/data."])
        pairs.append((key.split("."), value, f"--set {key}"))
    return pairs


def _apply_overrides(layers: Layers, overrides: list[str]) -> None:
    for keys, value, source in _override_pairs(overrides):
        try:
            parsed = yaml.safe_load(value) if value.strip() else None
        except yaml.YAMLError:
            parsed = value
        for key in reversed(keys):
            parsed = {key: parsed}
        layers.add(parsed, source)


def meant(name: str, known: Iterable[str]) -> str:
    """A guess at what was meant by a name that isn't known, as one more sentence; empty where nothing is near."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near and near[0] != name else ""


def site_file(name: str) -> Path:
    """The file of a site, given by name or as a path to a YAML file; ConfigError lists the known ones."""
    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else SITE_DIR / f"{name}.yaml"
    if not path.is_file() or name in {"models", "agents"}:
        raise ConfigError(
            [
                f"site '{name}': there is no {shown(path)}. Known sites: {', '.join(site_names())}."
                f"{meant(name, site_names())} scripts_hpc/site.sh init writes one for the cluster that it is run on."
            ]
        )
    return path.resolve()


def site_names() -> list[str]:
    """All sites in site-config/, without the files that aren't one."""
    other = {"default", "models", "agents"}
    return sorted(path.stem for path in SITE_DIR.glob("*.yaml") if path.stem not in other)


def _beside(path: Path, parent: str) -> str:
    """What a site file extends: another one's name, or a path, which is taken from that file's folder."""
    return str(path.parent / Path(parent).expanduser()) if parent.endswith((".yaml", ".yml")) else parent


def _chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    chain: list[tuple[Path, dict[str, Any]]] = []
    while True:
        if any(path == seen for seen, _ in chain):
            raise ConfigError([f"{shown(path)}: extends itself ({' -> '.join(shown(seen) for seen, _ in chain)})."])
        data = read_yaml(path)
        parent = data.pop("extends", None)
        chain.insert(0, (path, data))
        if parent is None:
            return chain
        try:
            path = site_file(_beside(path, str(parent)))
        except ConfigError as error:
            raise ConfigError([f"{shown(path)}: extends: {error.problems[0]}"]) from error


def load_site(name: str, overrides: list[str] | None = None) -> Site:
    """The resolved configuration of a site.

    name: a site's name or the path of a YAML file. overrides: `section.key=value` strings, strongest.
    Raises ConfigError with every problem found, each naming the layer, the key and what to do.
    """
    path = site_file(name)
    layers = Layers()
    layers.add(read_yaml(SITE_DIR / "default.yaml"), shown(SITE_DIR / "default.yaml"))
    for file, data in _chain(path):
        # what a shared base says of its hosts is not true of the sites that extend it
        layers.add({"hostname_pattern": None}, shown(file))
        layers.add(data, shown(file))
    _apply_overrides(layers, overrides or [])
    problems = list(_open_secrets(layers, layers.tree))
    tree = _expand_tree(layers, layers.tree, (), problems)
    tree["name"] = path.stem
    site = _validated(Site, tree, layers, problems)
    for key in ("data", "runs", "tasks", "models", "containers", "address_dir", "notebooks"):
        if value := getattr(site.paths, key):
            setattr(site.paths, key, str(ROOT / value))
            if unfit := _unfit(key, value, site.isolated):
                problems.append(f"{layers.source_of(('paths', key))}: paths.{key}: {value!r} holds {unfit}.")
    if problems:
        raise ConfigError(problems)
    site.paths.notebooks = site.paths.notebooks or str(Path(site.paths.runs).with_name("notebooks"))
    if site.paths.tasks is None and OWN_TASKS.is_dir():
        site.paths.tasks = str(OWN_TASKS)
    return site


def _unfit(key: str, path: str, isolated: bool) -> str | None:
    """What a path holds that would break a job, if there is anything. (Blanks, '%', '&' and '|' do no harm.)"""
    if found := re.search(r"[\x00-\x1f\x7f\\]", path):
        return f"{found[0]!r}, which no #SBATCH line can hold"
    if key == "runs" and ":" in path:
        return "':', which no PYTHONPATH can hold: jobs run a copy of the code that lies there"
    return unbindable(path) if isolated and key != "containers" else None


def unbindable(path: str) -> str | None:
    """What a path holds that no --bind of Apptainer can, if there is anything."""
    found = re.search("[:,]", path)
    return found and f"{found[0]!r}: nothing with it in its name can be bound into a container"


def _validated(kind: type[Strict], tree: dict[str, Any], layers: Layers, problems: list[str]) -> Any:
    try:
        result = kind.model_validate(tree)
    except ValidationError as error:
        for item in error.errors():
            location = tuple(str(part) for part in item["loc"] if not isinstance(part, int))
            problems.append(sentence(layers.source_of(location), location, item, kind))
        raise ConfigError(problems) from error
    if problems:
        raise ConfigError(problems)
    return result


def sentence(source: str, location: tuple[str, ...], item: dict[str, Any], kind: type[BaseModel]) -> str:
    """One of pydantic's errors for a person: the file, the key, what is wrong with which value."""
    key = ".".join(location) or "the file"
    if item["type"] == "extra_forbidden":
        known = _known_keys(kind, location[:-1])
        return f"{source}: {key}: unknown key. Keys here: {', '.join(known)}.{meant(location[-1], known)}"
    if item["type"] == "missing":
        return f"{source}: {key}: must be set."
    message = item["msg"].removeprefix("Value error, ")
    secret = private.is_secret(location[-1] if location else "", str(item["input"]))
    found = private.MASK if secret else item["input"]
    return f"{source}: {key}: {message} (found {found!r})." if item["loc"] else f"{source}: {message}."


def _known_keys(kind: Any, location: tuple[str, ...]) -> list[str]:
    for part in location:
        field = getattr(kind, "model_fields", {}).get(part)
        kind = field.annotation if field else kind
    return sorted(getattr(kind, "model_fields", {}))


def pick_site(given: str | None) -> str:
    """Which site this is: --site, else $HPC_SITE, else by host name, else `local` where there is no sbatch."""
    if given:
        return given
    if os.environ.get("HPC_SITE"):
        return os.environ["HPC_SITE"]
    hosts = host_names()
    matches = [name for name in site_names() if fits(name, hosts)]
    host = hosts[0]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise ConfigError([f"host {host} fits the sites {', '.join(matches)}: choose with --site or HPC_SITE."])
    if shutil.which("sbatch") is None:
        return "local"
    raise ConfigError(
        [
            f"there is Slurm here, but no site file fits host {host}. Choose one with --site NAME or export HPC_SITE=NAME, "
            "or have one written: scripts_hpc/site.sh init (README, On a cluster). "
            f"Known sites: {', '.join(site_names())}."
        ]
    )


def host_names() -> list[str]:
    """What this machine is called: first what `hostname -f` says, then the names that /etc/hosts or DNS give it besides."""
    own = socket.gethostname()
    try:
        named = socket.getaddrinfo(own, None, flags=socket.AI_CANONNAME)[0][3]
    except OSError:
        named = ""
    return list(dict.fromkeys(name for name in (named, own, socket.getfqdn()) if name))


def fits(name: str, hosts: list[str]) -> bool:
    """Whether a site's hostname_pattern is found in one of these names. Raises ConfigError."""
    data = read_yaml(SITE_DIR / f"{name}.yaml")
    pattern = data.get("hostname_pattern")
    try:
        return bool(pattern) and any(re.search(pattern, host) for host in hosts)
    except re.error as error:
        raise ConfigError(
            [f"site-config/{name}.yaml: hostname_pattern: not a regular expression ({error})."]
        ) from error


def _load_entries(
    kind: type[Strict], file: str, more: dict[str, Any] | None = None, source: str = ""
) -> dict[str, Any]:
    path = SITE_DIR / file
    layers = Layers()
    layers.add(read_yaml(path), shown(path))
    layers.add(more or {}, source)
    problems = list(_open_secrets(layers, layers.tree))
    entries = {}
    for name, entry in layers.tree.items():
        if not isinstance(entry, dict):
            problems.append(f"{shown(path)}: {name}: must hold keys, found {entry!r}.")
            continue
        try:
            entries[str(name)] = TypeAdapter(kind).validate_python({**entry, "name": str(name)})
        except ValidationError as error:
            for item in error.errors():
                location = (str(name), *(str(part) for part in item["loc"] if not isinstance(part, int)))
                problems.append(
                    sentence(layers.source_of(location), location, item, kind).replace(
                        "unknown key. Keys here: .", "unknown key."
                    )
                )
    if problems:
        raise ConfigError(problems)
    return entries


def models(site: Site | None = None) -> dict[str, Model]:
    """All models of site-config/models.yaml by name, with what the site changes; ConfigError with every problem."""
    return _load_entries(
        Model, "models.yaml", site.models if site else None, f"models of site {site.name}" if site else ""
    )


def agents() -> dict[str, AgentEntry]:
    """All agents of site-config/agents.yaml by name, each followed by its variants; ConfigError with every problem."""
    found: dict[str, AgentEntry] = {}
    problems: list[str] = []
    for name, entry in _load_entries(AgentEntry, "agents.yaml").items():
        found[name] = entry
        for variant, changes in entry.variants.items():
            try:
                found[f"{name}/{variant}"] = _variant(entry, variant, changes)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def _variant(entry: AgentEntry, variant: str, changes: dict[str, Any]) -> AgentEntry:
    source = f"{shown(SITE_DIR / 'agents.yaml')}: {entry.name}.variants.{variant}"
    for key in ("name", "variants"):
        if key in changes:
            raise ConfigError([f"{source}: {key}: a variant can't change this key."])
    layers = Layers()
    layers.add(entry.model_dump(exclude={"variants"}, exclude_unset=True), source)
    layers.add({**changes, "name": f"{entry.name}/{variant}"}, source)
    try:
        return AgentEntry.model_validate(layers.tree)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            location = tuple(str(part) for part in item["loc"] if not isinstance(part, int))
            problems.append(sentence(source, location, item, AgentEntry))
        raise ConfigError(problems) from error


def model(name: str, site: Site | None = None) -> Model:
    """One model by name, with what the site changes, its variables expanded; ConfigError lists the known names."""
    known = models(site)
    if name not in known:
        said = f"model '{name}': not in site-config/models.yaml. Known models: {', '.join(known)}.{meant(name, known)}"
        raise ConfigError([said])
    entry = known[name]
    problems = []
    for key in ("served_name", "base_url", "repo"):
        text, missing = expand(getattr(entry, key) or "")
        problems += [f"site-config/models.yaml: {name}.{key}: ${{{one}}} is not set: export {one}=…" for one in missing]
        setattr(entry, key, text or None)
    if entry.base_url and private.IN_URL.search(entry.base_url):
        problems.append(
            f"model '{name}': base_url holds a password: it belongs into the key that api_key_variable names."
        )
    if problems:
        raise ConfigError(problems)
    return entry


def agent(name: str) -> AgentEntry:
    """One agent by name; ConfigError lists the known names, or names the folder that is missing."""
    known = agents()
    if name not in known:
        said = f"agent '{name}': not in site-config/agents.yaml. Known agents: {', '.join(known)}.{meant(name, known)}"
        raise ConfigError([said])
    entry = known[name]
    if not (entry.path / "start.sh").is_file():
        raise ConfigError([f"agent '{name}': there is no {shown(entry.path)}/start.sh."])
    return entry
