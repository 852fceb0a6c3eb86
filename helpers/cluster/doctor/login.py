"""What `site.sh doctor` checks without a job: on the machine where a person types it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from helpers.cluster.doctor.findings import FAILURE, NOT_CHECKED, OK, WARNING, Finding, check
from helpers.config import entries, layers, sites
from helpers.config.schema import Model, Site
from helpers.images import build as images
from helpers.images import mlebench_source, weights
from helpers.lib import private, room
from helpers.lib.errors import Infrastructure
from helpers.scheduler import cluster as limits

LEAST_FREE_GB = 0.2  # with less, run_workflow.sh begins nothing
FEW_GB = 10.0  # a few runs
NEEDED_IMAGES = ("mlebench-env", "aide")  # of the run that proves the plumbing
NEEDED_MODEL = "replay"
OWNED = ("runs", "address_dir")
NEEDED_FOLDERS = (*OWNED, "data")


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
    def answers(self) -> bool:
        """Whether there is a Slurm that can be asked."""
        try:
            return self.slurm and shutil.which("sbatch") is not None and bool(self.cluster.nodes)
        except Infrastructure:
            return False

    @property
    def build(self) -> str:
        """The command that builds images."""
        return f"containers/build_all_containers.sh --site {self.site.name}"

    @cached_property
    def models(self) -> dict[str, Model]:
        return entries.models(self.site)

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
        yield _folder(f"paths.{key}", path, nearest(path), key in OWNED, FAILURE if key in NEEDED_FOLDERS else WARNING)


def nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above that is there."""
    return next(one for one in (path, *path.parents) if os.path.lexists(one))


def _folder(key: str, path: Path, there: Path, owned: bool, severity: str) -> Finding:
    name = f"folder {key.partition('.')[2]}"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        read = there == path and os.access(there, os.R_OK | os.X_OK)
        said = f"{path} can{' only' if read else chr(39) + 't'} be {'read' if read else 'made or used'}"
        state = OK if read and not owned else severity
        return Finding(name, state, said, key, "" if state == OK else "name a folder that you can write")
    if key == "paths.address_dir" and there == path and path.stat().st_uid != os.getuid():
        return Finding(name, FAILURE, f"{path} belongs to another user", key, "name a folder of your own")
    free = shutil.disk_usage(there).free / 1e9
    if lacking := room.lacking(there):
        return Finding(name, severity, f"{path}: {lacking}", key, "free some room, or name another folder")
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
    needed = (*NEEDED_IMAGES, *("vllm" for name in here.wanted if here.models[name].engine == "vllm"))
    others = []
    for name, text in images.definitions(here.site).items():
        path = Path(here.site.paths.containers, f"{name}.sif")
        if os.access(path, os.R_OK):
            stale = _stale(path, text)
            said = stale or f"{path.stat().st_size / 1e9:.1f} GB, up to date"
            yield Finding(
                f"image {name}", WARNING if stale else OK, said, "", f"{here.build} --only {name}" if stale else ""
            )
        elif name in needed:
            yield Finding(
                f"image {name}", FAILURE, f"not in {path.parent}", "paths.containers", f"{here.build} --only {name}"
            )
        else:
            others.append(name)
    if others:
        yield Finding("other images", WARNING, f"not built: {', '.join(others)}", "paths.containers", here.build)


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
            said = f"needs {model.gpus} GPU(s), and a node has {here.site.gpu.per_node}"
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
    file = sites.ROOT / ".env"
    if file.is_file() and file.stat().st_mode & 0o077:
        yield Finding("keys", WARNING, f"others can read {file}", "", f"chmod 600 {file}")
    lacking = {
        name: model.api_key_variable
        for name, model in here.models.items()
        if model.engine == "external" and model.api_key_variable and not layers.key(model.api_key_variable)
    }
    for name in (name for name in here.wanted if name in lacking):
        yield Finding(f"model {name}", FAILURE, f"{lacking[name]} is neither in .env nor set", "", "see .env.example")
    others = [f"{name} ({lacking[name]})" for name in lacking if name not in here.wanted]
    said = f"none for {', '.join(others)}" if others else "for all models that need one"
    yield Finding("keys", OK, said)


def proxy_here(site: Site) -> str | None:
    """The proxy of this shell, where the site names none, and it holds no password."""
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or os.environ.get("http_proxy")
    usable = proxy and not site.environment.proxy and not private.is_secret("proxy", proxy)
    return proxy if usable and re.fullmatch(r"[\w.:/-]+", proxy) else None
