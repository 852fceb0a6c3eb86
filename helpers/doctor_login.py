"""What `site.sh doctor` checks without a job: on the machine where a person types it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from helpers import cluster_facts, images, limits, mlebench_source, private, render, room, site_config, weights
from helpers.doctor_findings import FAILURE, NOT_CHECKED, OK, WARNING, Finding, check
from helpers.scheduler import SchedulerUnavailable, ask_all
from helpers.site_config import Infrastructure, Model, Site

LEAST_FREE_GB = 0.2  # with less, run_workflow.sh begins nothing
FEW_GB = 10.0  # a few runs
NEEDED_IMAGES = ("mlebench-env", "aide")  # of the run that proves the plumbing
NEEDED_MODEL = "replay"
OWNED = ("runs", "address_dir")


@dataclass
class Here:
    """A site, and what its cluster says. wanted: models without which a run is no run."""

    site: Site
    wanted: tuple[str, ...] = ()
    cluster: limits.Cluster = field(default_factory=limits.Cluster)

    @property
    def slurm(self) -> bool:
        return self.site.scheduler.kind == "slurm"

    @cached_property
    def models(self) -> dict[str, Model]:
        return site_config.models(self.site)

    def state(self, model: str) -> str:
        """How bad it is that a model can't be used."""
        return FAILURE if model in (NEEDED_MODEL, *self.wanted) else WARNING


# ---- versions


@check("login")
def programs(here: Here) -> Finding:
    said = subprocess.run(["bash", "-c", 'printf %s "$BASH_VERSION"'], capture_output=True, text=True).stdout
    versions = [f"bash {said.partition('(')[0]}", f"Python {platform.python_version()}"]
    lacking = [name for name in ("curl", "openssl", "git") if shutil.which(name) is None]
    if lacking:
        advice = "jobs need them, or a module that brings them"
        return Finding("programs", WARNING, f"not here: {', '.join(lacking)}", "environment.modules", advice)
    return Finding("programs", OK, ", ".join([*versions, "curl, openssl, git"]))


@check("login")
def scheduler(here: Here) -> Finding:
    if not here.slurm:
        return Finding("scheduler", OK, "none: jobs run as processes of this machine")
    if shutil.which("sbatch") is None:
        return Finding("scheduler", FAILURE, "no sbatch on PATH", "scheduler.kind", "log in to the cluster")
    count = sum(count for name, nodes in here.cluster.nodes.items() if name for count, _ in nodes)
    version = (here.cluster.config or {}).get("SLURM_VERSION", "of unknown version")
    return Finding(
        "scheduler", OK, f"Slurm {version}, {count} nodes in {len([n for n in here.cluster.nodes if n])} partitions"
    )


@check("login")
def container_program(here: Here) -> Finding:
    runtime, key = here.site.container.runtime, "container.runtime"
    if runtime == "none":
        return Finding("containers", OK if not here.slurm else WARNING, "none: agents could read the answers", key)
    if shutil.which(runtime) is None:
        told = "modules bring it to jobs" if here.site.environment.modules else "the probes tell whether nodes have it"
        return Finding("containers", NOT_CHECKED, f"no {runtime} on PATH here: {told}")
    done = subprocess.run([runtime, "--version"], capture_output=True, text=True, timeout=20)
    return Finding("containers", OK if done.returncode == 0 else WARNING, (done.stdout or done.stderr).strip()[:100])


# ---- folders


@check("login")
def folders(here: Here) -> Iterator[Finding]:
    for key in ("runs", "address_dir", "data", "containers", "models"):
        path = Path(getattr(here.site.paths, key))
        yield _folder(f"paths.{key}", path, nearest(path), key in OWNED)


def nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above that is there."""
    return next(one for one in (path, *path.parents) if os.path.lexists(one))


def _folder(key: str, path: Path, there: Path, owned: bool) -> Finding:
    name = f"folder {key.partition('.')[2]}"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        read = there == path and os.access(there, os.R_OK | os.X_OK)
        said = f"{path} can{' only' if read else chr(39) + 't'} be {'read' if read else 'made or used'}"
        state = OK if read and not owned else FAILURE if owned else WARNING
        return Finding(name, state, said, key, "" if state == OK else "name a folder that you can write")
    if key == "paths.address_dir" and there == path and path.stat().st_uid != os.getuid():
        return Finding(name, FAILURE, f"{path} belongs to another user", key, "name a folder of your own")
    free = shutil.disk_usage(there).free / 1e9
    if lacking := room.lacking(there):
        return Finding(
            name, FAILURE if owned else WARNING, f"{path}: {lacking}", key, "free some room, or name another folder"
        )
    if free < LEAST_FREE_GB and owned:
        return Finding(name, FAILURE, f"{path} has {free:.2f} GB free", key, "free some room, or name another folder")
    state = WARNING if free < FEW_GB else OK
    return Finding(
        name, state, f"{path}, {free:.0f} GB free", key if state != OK else "", "" if state == OK else "little room"
    )


# ---- what runs are made of


@check("login")
def container_images(here: Here) -> Iterator[Finding]:
    if not here.site.isolated:
        return
    folder = Path(here.site.paths.containers)
    build = f"containers/build_all_containers.sh --site {here.site.name} --only"
    for name, text in images.definitions(here.site).items():
        path = folder / f"{name}.sif"
        if not os.access(path, os.R_OK):
            state = FAILURE if name in NEEDED_IMAGES else WARNING
            yield Finding(f"image {name}", state, f"{path} isn't there", "paths.containers", f"{build} {name}")
        elif (stale := _stale(path, text)) is not None:
            yield Finding(f"image {name}", WARNING, stale, "paths.containers", f"{build} {name}")
        else:
            yield Finding(f"image {name}", OK, f"{path.stat().st_size / 1e9:.1f} GB, up to date")


def _stale(path: Path, text: str) -> str | None:
    """Why an image isn't what would be built now; containers/build_all_containers.sh decides by the same."""
    try:
        noted = Path(f"{path}.build").read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return "nothing tells what it was built from"
    sources = {os.environ.get("MLEBENCH_SOURCE") or mlebench_source.REPOSITORY, "none"}
    if any(noted == images.fingerprint(text, source) for source in sources):
        return None
    return "its definition, requirements or base have changed since it was built"


@check("login")
def model_weights(here: Here) -> Iterator[Finding]:
    for name, model in here.models.items():
        if model.engine != "vllm":
            continue
        lacking = weights.problem(
            str(model.repo), model.revision, here.site.paths.models, tokenizer=model.needs_tokenizer
        )
        if model.gpus > here.site.gpu.per_node:
            said = f"needs {model.gpus} GPUs, and a node has {here.site.gpu.per_node}"
            yield Finding(
                f"model {name}", here.state(name), said, "gpu.per_node", f"a smaller model, or models: {name}: gpus"
            )
        elif lacking is None:
            yield Finding(f"model {name}", OK, "its weights are here")
        elif advice := here.site.weights_advice(model):
            yield Finding(f"model {name}", here.state(name), lacking, "paths.models", advice)
        else:
            yield Finding(f"model {name}", OK, "its weights aren't here: its first job fetches them")


@check("login")
def data(here: Here) -> Finding:
    folder = Path(here.site.paths.data)
    tasks = sorted({path.parent.name for path in folder.glob("*/prepared") if (path / "public").is_dir()})
    if tasks:
        return Finding("data", OK, f"{len(tasks)} prepared: {', '.join(tasks[:3])}{', …' if len(tasks) > 3 else ''}")
    advice = f"scripts_hpc/prepare_tasks.sh TASK --site {here.site.name}; a task of this project is prepared by its first run"
    return Finding("data", OK, "no task is prepared yet", "paths.data", advice)


@check("login")
def keys(here: Here) -> Iterator[Finding]:
    file = site_config.ROOT / ".env"
    if file.is_file() and file.stat().st_mode & 0o077:
        yield Finding("keys", WARNING, f"others can read {file}", "", f"chmod 600 {file}")
    lacking = {
        name: model.api_key_variable
        for name, model in here.models.items()
        if model.engine == "external"
        and model.api_key_variable
        and not (os.environ.get(model.api_key_variable) or site_config.dotenv(model.api_key_variable))
    }
    for name in (name for name in here.wanted if name in lacking):
        yield Finding(f"model {name}", FAILURE, f"{lacking[name]} is neither in .env nor set", "", "see .env.example")
    others = [name for name in lacking if name not in here.wanted]
    count = sum(model.engine == "external" for model in here.models.values())
    said = f"of {count} models of other services, {len(lacking)} have no key" + (
        f": {', '.join(others)}" if others else ""
    )
    yield Finding(
        "keys", OK, said, "", f"needed for these alone: {', '.join(lacking[one] for one in others)}" if others else ""
    )


# ---- the scheduler's word on the jobs


@check("login")
def partitions(here: Here) -> Iterator[Finding]:
    if not here.slurm:
        return
    for role in ("cpu", "gpu"):
        key = f"partitions.{role}.name"
        name = getattr(here.site.partitions, role).name or ""
        severity = FAILURE if role == "cpu" or here.wanted else WARNING
        for one in name.split(","):
            if one not in here.cluster.nodes:
                known = ", ".join(sorted(filter(None, here.cluster.nodes)))
                said = f"there is no partition '{one}'" if one else "there is no default partition"
                yield Finding(f"{role} partition", severity, said, key, f"one of: {known}")
                continue
            state = here.cluster.partitions.get(one, {}).get("State", "UP")
            if state != "UP":
                yield Finding(
                    f"{role} partition", severity, f"{one} is {state}, and takes no jobs", key, "another one, or wait"
                )
            else:
                nodes = sum(count for count, _ in here.cluster.nodes[one])
                yield Finding(f"{role} partition", OK, f"{one or 'the default one'}: {nodes} node(s), up")


@check("login")
def queue(here: Here) -> Finding | None:
    if here.site.limits.max_submit is None or not here.slurm:
        return None
    left = limits.room(here.site)
    return Finding("queue", OK if (left or 0) > 2 else FAILURE, f"room for {left} jobs more", "limits.max_submit")


@check("login")
def jobs(here: Here) -> Iterator[Finding]:
    """What Slurm would say of each job of a workflow: limits as it tells them, and then sbatch --test-only."""
    if not here.slurm:
        return
    served = [model for model in here.models.values() if model.engine != "external"]
    files = render.site_files(here.site, served, [site_config.agent("aide")])
    needed = (f"vllm_{NEEDED_MODEL}", *(f"vllm_{name}" for name in here.wanted), "grading_server", "agent_aide")
    scripts = {name.removeprefix("slurm_"): text for name, text in files.items() if name.endswith(".sh")}
    good = []
    answers = accepted(scripts)
    for name, text in scripts.items():
        script = name.removesuffix(".sh")
        severity = FAILURE if script in needed else WARNING
        told = limits.problems(here.site, {name.replace("agent_aide", "agent"): text}, here.cluster)
        if told or answers[name]:
            said, advice = [*re.split(": (?=lower |set )", told[0], maxsplit=1), ""][:2] if told else ("", "")
            said = said or f"sbatch refuses it: {answers[name]}"
            yield Finding(f"job {script}", severity, said, "", advice or "see scheduler and partitions of the site")
        else:
            good.append(script)
    if good:
        yield Finding("jobs", OK, f"sbatch --test-only takes {len(good)}: {', '.join(good)}")


def accepted(scripts: dict[str, str]) -> dict[str, str | None]:
    """Whether Slurm would take each of these scripts: None, or its reason. Nothing is submitted. Raises Infrastructure."""
    with tempfile.TemporaryDirectory(prefix="hab-doctor.") as folder:
        for name, text in scripts.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        commands = [("sbatch", "--test-only", str(Path(folder, name))) for name in scripts]
        answers = ask_all(*commands, seconds=limits.Cluster.SECONDS)
    found: dict[str, str | None] = {}
    for name, said in zip(scripts, answers, strict=True):
        if isinstance(said, SchedulerUnavailable) and cluster_facts.NO_ANSWER.search(str(said)):
            raise Infrastructure(f"the scheduler doesn't answer: {said}")
        found[name] = cluster_facts.refusal(said) if isinstance(said, SchedulerUnavailable) else None
    return found


def proxy_here(site: Site) -> str | None:
    """The proxy of this shell, where the site names none, and it holds no password."""
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or os.environ.get("http_proxy")
    usable = proxy and not site.environment.proxy and not private.is_secret("proxy", proxy)
    return proxy if usable and re.fullmatch(r"[\w.:/-]+", proxy) else None
