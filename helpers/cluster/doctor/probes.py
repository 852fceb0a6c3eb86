"""The probe jobs of `site.sh doctor`: which there are, where they may run, and their scripts."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

from helpers.cluster.doctor.login import NEEDED_IMAGES, Here, nearest, proxy_here
from helpers.cluster.doctor.slurm import accepted
from helpers.config.schema import Site
from helpers.rendering import render
from helpers.scheduler.query import SchedulerUnavailable, ask

SHARED = ("runs", "address_dir", "data", "containers")  # keys of paths
SPARE_MINUTES = 5
OUTSIDE = ("https://huggingface.co", "https://pypi.org")


@dataclass(frozen=True)
class Probe:
    """A probe job. peers: probes whose nodes it tries to reach; after: the probe that must have started; options: more of sbatch's."""

    SECONDS = 120  # its time limit; it ends itself within half of that

    name: str
    role: str = "cpu"
    gpus: int = 0
    peers: tuple[str, ...] = ()
    after: str = ""
    options: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    nonce: str = ""
    folders: dict[str, str] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)  # folders that can only be read
    outside: tuple[str, ...] = OUTSIDE
    proxy: str | None = None


def planned(here: Here, gpu: bool, wait: int) -> list[Probe]:
    """The probes of a site: one CPU node, a second one where there are two, and with gpu one with a GPU and a CPU node that meets it."""
    site = here.site
    folders = {key: str(nearest(Path(getattr(site.paths, key)))) for key in SHARED}
    writable = {key: folder for key, folder in folders.items() if os.access(folder, os.W_OK | os.X_OK)}
    images = tuple(name for name in NEEDED_IMAGES if Path(site.paths.containers, f"{name}.sif").exists())
    listed = {
        key: folder for key, folder in folders.items() if key not in writable and folder == getattr(site.paths, key)
    }
    common = Probe("cpu", nonce=secrets.token_hex(8), folders=writable, listed=listed, proxy=proxy_here(site))
    hub = site.environment.variables.get("HF_ENDPOINT")
    common = replace(common, images=images if site.isolated else (), outside=(hub, *OUTSIDE[1:]) if hub else OUTSIDE)
    if not here.slurm:
        return [common]
    probes = [common]
    names = [name for name in (site.partitions.cpu.name or "").split(",") if name in here.cluster.nodes]
    if sum(count for name in names for count, _ in here.cluster.nodes[name]) > 1:
        first, second = _apart(site)
        probes = [
            replace(common, peers=("peer",), options=first),
            replace(common, name="peer", peers=("cpu",), after="cpu", options=second, images=()),
        ]
    if gpu:
        count = site.gpu.per_node if site.gpu.whole_node else 1
        probes += [
            replace(common, name="gpu", role="gpu", gpus=count, peers=("gpu_peer",)),
            replace(common, name="gpu_peer", peers=("gpu",), after="gpu", images=()),
        ]
    # one that was forgotten, as its doctor was killed, leaves the queue by itself
    deadline = f"--deadline=now+{wait + SPARE_MINUTES}minutes"
    return [replace(probe, options=(*probe.options, deadline)) for probe in probes]


def _apart(site: Site) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options that put two jobs on two nodes: the one on a node that is free now, the other anywhere else; none where nothing tells."""
    partition = [f"--partition={site.partitions.cpu.name}"] if site.partitions.cpu.name else []
    try:
        lines = ask("sinfo", "--noheader", "--Node", *partition, "--format=%N|%T").splitlines()
    except SchedulerUnavailable:
        return (), ()
    states = dict(line.split("|", 1) for line in lines if line.count("|") == 1)
    free = next((name for state in ("idle", "mixed") for name in states if states[name] == state), None)
    if free is None or any(option.startswith("--exclude") for option in site.role("cpu")["extra"]):
        return (), ()
    return (f"--nodelist={free}",), (f"--exclude={free}",)


def scripts(site: Site, folder: Path | str, probes: list[Probe]) -> dict[str, str]:
    """The scripts of the probes by probe. folder: the doctor's own."""
    workflow = render.Workflow(str(folder))
    return {probe.name: render.doctor_script(site, workflow, probe) for probe in probes}


def refusals(site: Site, probes: list[Probe]) -> tuple[list[Probe], dict[str, str]]:
    """The probes that Slurm would take, and why it wouldn't take the others. One that may not choose its node goes anywhere."""
    if site.scheduler.kind != "slurm":
        return probes, {}
    answers = accepted(scripts(site, "/nowhere", probes))
    free = [replace(probe, options=()) for probe in probes if answers[probe.name]]
    again = accepted(scripts(site, "/nowhere", free)) if free else {}
    taken = {probe.name: probe for probe in probes if not answers[probe.name]}
    taken |= {probe.name: probe for probe in free if not again[probe.name]}
    refused = {name: str(again.get(name) or said) for name, said in answers.items() if said and name not in taken}
    return [taken[probe.name] for probe in probes if probe.name in taken], refused


def listing(folder: str) -> str:
    """A digest of the names in a folder, as `LC_ALL=C ls -A | sha256sum` prints it. Raises OSError."""
    names = sorted(os.fsencode(name) + b"\n" for name in os.listdir(folder))
    return hashlib.sha256(b"".join(names)).hexdigest()
