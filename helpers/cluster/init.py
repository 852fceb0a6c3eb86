"""`site.sh init`: writes a cluster's first site file from what the cluster says of itself, and tells of each value who said it."""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
from pathlib import Path

import click

from helpers.cluster import facts as cluster_facts
from helpers.cluster.draft import GUESS, Draft, Questions
from helpers.cluster.facts import Facts, Gpus
from helpers.config import entries, layers, sites
from helpers.config.layers import SITE_DIR
from helpers.config.schema import NAME, Site
from helpers.lib import private
from helpers.lib.errors import ConfigError
from helpers.rendering.render import AGENT_LEAD, SERVER_START_MINUTES

NOMINAL_GB = 80  # of a GPU, for which models.yaml counts
MOST_TRIES = 16  # questions to sbatch --test-only, of somebody with many accounts
LONGEST_LOAD = 45  # minutes, of the models in models.yaml


def init(name: str | None, ask: bool) -> Path:
    """Write site-config/<name>.yaml. Raises ConfigError where that can't be, and Infrastructure where the scheduler doesn't answer."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            [
                "there is no sbatch on PATH: run this on a login node of the cluster. Without Slurm, the site `local` works as it stands."
            ]
        )
    facts = Facts()
    path = _new_file(name or facts.name or "cluster")
    draft = Draft()
    questions = Questions(ask)
    _host(draft)
    partitions = _partitions(draft, facts, questions)
    gpus = _gpus(draft, facts, partitions["gpu"])
    _account(draft, facts, questions, partitions)
    _sizes(draft, facts, partitions["cpu"])
    _environment(draft)
    _paths(draft, questions)
    _limits(draft, facts)
    _models(draft, gpus)
    _write(path, draft, facts)
    return path


def _new_file(name: str) -> Path:
    """Raises ConfigError for what can't be a name, and for a file that is there."""
    path = SITE_DIR / f"{name}.yaml"
    if not re.fullmatch(NAME, name) or name in ("default", "models", "agents"):
        raise ConfigError(
            [f"'{name}' can't be a site's name: letters, digits, '.', '_' and '-', e.g. site.sh init mycluster."]
        )
    if path.exists():
        raise ConfigError(
            [f"{layers.shown(path)} is there already, and is left as it is: give another name, or move it away."]
        )
    return path


def _host(draft: Draft) -> None:
    host = sites.host_names()[0]
    pattern = "^" + re.sub(r"\d+", r"\\d+", re.escape(host)) + "$"
    others = [site for site in sites.site_names() if sites.fits(site, [host])]
    draft.put("description", f"Written by site.sh init on {host}", "")
    if others:
        draft.notes.append(
            f"hostname_pattern: '{pattern}' is left out: {', '.join(others)} fits this host too. Choose with --site or HPC_SITE."
        )
    elif host in ("localhost", ""):
        draft.notes.append(
            "hostname_pattern: this machine has no name of its own. Choose the site with --site or HPC_SITE."
        )
    else:
        draft.put("hostname_pattern", pattern, "hostname -f, with any number in it")


def _partitions(draft: Draft, facts: Facts, questions: Questions) -> dict[str, str]:
    """The partitions of CPU and GPU jobs by role; an empty name where there is none."""
    cpu, told = questions.choose("Partition for jobs without GPUs", facts.cpu_partitions, "partitions.cpu.name")
    if cpu is None:
        cpu, told = next(iter(facts.gpu_partitions), None), f"{GUESS}: every partition that you may use has GPUs"
    if cpu is None:
        raise ConfigError(["no partition is open to you here (scontrol show partition): ask the cluster's support."])
    draft.put("partitions.cpu.name", cpu, f"{told} (scontrol show partition)" if "guess" not in told else told)
    gpu, told = questions.choose("Partition with GPUs", facts.gpu_partitions, "partitions.gpu.name")
    if gpu is None:
        draft.notes.append(
            "No partition with GPUs is open to you here (sinfo): models can be `replay` or `external` ones."
        )
    else:
        draft.put("partitions.gpu.name", gpu, f"{told} (sinfo)" if "guess" not in told else told)
    return {"cpu": cpu, "gpu": gpu or ""}


def _gpus(draft: Draft, facts: Facts, partition: str) -> Gpus | None:
    if not partition:
        draft.put("gpu.per_node", 0, "sinfo: none")
        return None
    gpus = facts.gpus(partition)
    draft.put("gpu.per_node", max(gpus.count, 1), "sinfo")
    if gpus.kind:
        unsure = f"{GUESS} of the memory, the smallest of its kind" if gpus.memory and not gpus.certain else "sinfo"
        draft.put("gpu.kind", gpus.kind, unsure)
    if gpus.amd:
        draft.put("gpu.vendor", "amd", "sinfo")
    return gpus


def _account(draft: Draft, facts: Facts, questions: Questions, partitions: dict[str, str]) -> None:
    """Account, QOS, memory and the request for GPUs: what sbatch --test-only takes."""
    base = f"--partition={partitions['cpu']} --time=10"
    pairs: list[tuple[str | None, str | None]] = [(None, None)]
    for account in facts.accounts:
        pairs += [(account, None), *((account, qos) for qos in facts.qualities(account))]
    tries = {pair: base + _options(*pair) for pair in pairs[:MOST_TRIES]}
    refusals = dict(zip(tries, facts.accepts(*tries.values()), strict=True))
    taken = [pair for pair, refusal in refusals.items() if refusal is None]
    usable = [account for account in facts.accounts if any(pair[0] == account for pair in taken)]
    account, told = questions.choose("Account", usable or facts.accounts, "scheduler.account")
    pair = next((pair for pair in taken if pair[0] == account), (account, None))
    if not taken:
        draft.notes.append(
            f"sbatch --test-only refuses a small job in partition {partitions['cpu']}: {refusals[None, None]}"
        )
    if account and (len(facts.accounts) > 1 or (None, None) not in taken):
        said = "the only one that sbatch --test-only takes there" if told == "the only one" and taken else told
        draft.put("scheduler.account", account, said)
    if pair[1]:
        draft.put("scheduler.qos", pair[1], "without it sbatch --test-only refuses")
    more = [f"{base}{_options(*pair)} --mem=1G"]
    if partitions["gpu"]:
        gpu = f"--partition={partitions['gpu']} --time=10{_options(*pair)}"
        more += [f"{gpu} --gres=gpu:1", f"{gpu} --gpus-per-node=1", gpu]
    memory, *gpu_refusals = facts.accepts(*more)
    if memory is not None and pair in taken:
        draft.put("scheduler.request_memory", False, f"sbatch --test-only --mem=1G: {memory}")
    if gpu_refusals:
        _gpu_request(draft, gpu_refusals)


def _options(account: str | None, qos: str | None) -> str:
    return f"{f' --account={account}' if account else ''}{f' --qos={qos}' if qos else ''}"


def _gpu_request(draft: Draft, refusals: list[str | None]) -> None:
    for request, refusal in zip(("--gres=gpu:{count}", "--gpus-per-node={count}", None), refusals, strict=True):
        if refusal is None:
            draft.put("gpu.request", request, "sbatch --test-only takes it")
            if request is None:
                draft.put("gpu.whole_node", True, f"{GUESS}: jobs there can't ask for single GPUs")
            return
    draft.notes.append(f"sbatch --test-only refuses every job with a GPU: {refusals[0]}")


def _sizes(draft: Draft, facts: Facts, partition: str) -> None:
    """What jobs ask for, where the partition's nodes or its time are less than what is usual."""
    default = layers.read_yaml(SITE_DIR / "default.yaml")["jobs"]
    node, told = facts.smallest(partition), f"of partition {partition} (sinfo)"
    for job in ("grading_server", "agent", "prepare"):
        if node["cpu"] < default[job]["cpus"]:
            draft.put(f"jobs.{job}.cpus", max(node["cpu"], 1), f"a node {told} has so many")
        if 0 < node["mem"] < default[job]["memory_gb"] * 1024:
            draft.put(f"jobs.{job}.memory_gb", max(node["mem"] // 1024, 1), f"a node {told} has so much")
    qos = draft.entries.get("scheduler.qos", (None, ""))[0]
    gpu = draft.entries.get("partitions.gpu.name", (None, ""))[0]
    for job in ("grading_server", "model_server", "agent", "prepare"):
        # a model without GPUs is served beside the agents
        places = [partition, gpu] if job == "model_server" and gpu else [partition]
        most, told = min(
            [(facts.seconds(place), f"partition {place}") for place in places]
            + [(facts.seconds_of_qos(qos), f"QOS {qos}")]
        )
        if job == "agent":
            room = most - (LONGEST_LOAD + SERVER_START_MINUTES) * 60 - AGENT_LEAD
            if room < default[job]["time_limit"]:
                draft.put(
                    "jobs.agent.time_limit", max(room, 60), f"the longest of {told}, less the start of the servers"
                )
        elif most < 3600 * int(default[job]["time"].partition(":")[0]):
            draft.put(
                f"jobs.{job}.time",
                f"{most // 3600:02d}:{most % 3600 // 60:02d}:{most % 60:02d}",
                f"the longest of {told}",
            )


def _environment(draft: Draft) -> None:
    program, modules, told = cluster_facts.container_program()
    if modules:
        draft.put("environment.modules", modules, told)
    draft.put("container.runtime", program or "apptainer", told if program else f"{GUESS}: {told}")
    proxy = os.environ.get("https_proxy") or os.environ.get("http_proxy")
    if proxy and not private.is_secret("proxy", proxy):
        draft.put("environment.proxy", proxy, "$https_proxy, $http_proxy")
        direct = os.environ.get("no_proxy", "")
        if direct:
            draft.put("environment.no_proxy", [host for host in direct.split(",") if host], "$no_proxy")
    elif proxy:
        draft.notes.append(
            "environment.proxy: yours holds a password: write http://user:${PROXY_PASSWORD}@host:port, and PROXY_PASSWORD=… into .env"
        )
    draft.put("environment.offline", False, f"{GUESS}: true, where compute nodes don't reach the internet")


def _paths(draft: Draft, questions: Questions) -> None:
    found, told = cluster_facts.storage() or ("", f"{GUESS}: no scratch folder was found")
    default = f"{found}/hpc-agent-bench" if found else str(sites.ROOT)
    base = questions.text("Folder for data, runs, images and weights, seen by all nodes", default, "paths")
    if base != default:
        told = "given by you"
    expanded = layers.expand(base)[0]
    if not os.path.isabs(expanded):
        raise ConfigError(
            [f"'{base}' isn't an absolute path: data, runs and images need a folder that all nodes see under one name."]
        )
    for key, folder in (("data", "data"), ("runs", "runs"), ("models", "huggingface"), ("containers", "containers")):
        draft.put(f"paths.{key}", f"{base}/{folder}", told)
    kind = cluster_facts.of_one_node(_existing(expanded))
    if kind:
        draft.notes.append(f"paths: {base} lies on {kind}, as disks of one node do. Do compute nodes see it?")
    home = os.path.expanduser("~")
    if cluster_facts.of_one_node(home) and not kind:
        draft.put(
            "paths.address_dir", f"{base}/addresses", f"{GUESS}: the home folder looks like one of this node alone"
        )


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _limits(draft: Draft, facts: Facts) -> None:
    draft.put("limits.max_array_size", facts.array_size, "scontrol show config")
    if facts.max_submit:
        draft.put("limits.max_submit", facts.max_submit, "sacctmgr show assoc")
    draft.put("limits.gpu_idle_minutes", None, f"{GUESS}: a number, where the cluster kills jobs whose GPUs idle")


def _models(draft: Draft, gpus: Gpus | None) -> None:
    """What a model needs of smaller GPUs than models.yaml counts with."""
    if gpus is None or not gpus.memory or gpus.memory >= NOMINAL_GB * 0.95:
        return
    factor = 2 ** math.ceil(math.log2(NOMINAL_GB / gpus.memory))
    for name, model in entries.models().items():
        if model.engine != "vllm" or not model.gpus:
            continue
        count = model.gpus * factor
        if count > max(gpus.count, 1):
            draft.notes.append(f"models: {name} needs {count} GPUs of {gpus.memory} GB, and a node has {gpus.count}.")
            continue
        for key, value in (("gpus", count), ("tensor_parallel", model.tensor_parallel * factor)):
            draft.put(f"models.{name}.{key}", value, f"{model.gpus} of {NOMINAL_GB} GB, in models.yaml")


def _write(path: Path, draft: Draft, facts: Facts) -> None:
    """Write the file, if it passes what `site validate` asks. Raises ConfigError."""
    head = [
        f"Written by `site.sh init` on {sites.host_names()[0]}. Look at each guess; every key stands in default.yaml."
    ]
    with tempfile.TemporaryDirectory(prefix=".init.", dir=SITE_DIR) as folder:
        temporary = Path(folder, path.name)
        temporary.write_text(draft.text(head), encoding="utf-8")
        site = sites.load_site(str(temporary))
        entries.models(site)
        try:
            os.link(temporary, path)  # never over a file that came meanwhile
        except FileExistsError:
            raise ConfigError([f"{layers.shown(path)} is there already, and is left as it is."]) from None
    click.echo(
        f"wrote {layers.shown(path)}: {len(draft.entries)} values, {draft.guesses} of them guesses (each is marked in the file)"
    )
    for note in draft.notes:
        click.echo(f"note: {note}")
    for said in _unfit(site, facts):
        click.echo(f"note: {said}")
    chosen = "" if "hostname_pattern" in draft.entries else f" --site {path.stem}"
    click.echo(
        f"next: scripts_hpc/site.sh doctor --write{chosen}, containers/build_all_containers.sh{chosen}, and then "
        f"scripts_hpc/run_workflow.sh classification_basic replay{chosen}"
    )


def _unfit(site: Site, facts: Facts) -> list[str]:
    """What the cluster would not take of the jobs of a workflow with the replay model."""
    from helpers.rendering import render
    from helpers.scheduler import limits

    models = [entries.model("replay", site)]
    scripts = {
        file: text
        for file, text in render.site_files(site, models, [entries.agent("aide")]).items()
        if file.endswith(".sh")
    }
    return limits.problems(site, {file.removeprefix("slurm_"): text for file, text in scripts.items()}, facts.cluster)
