"""`site.sh doctor`: says whether a run would work on a site. scripts_hpc/lib/doctor.sh submits its probes; runs where a person types."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from helpers.cluster.doctor import equipment, findings, login, network, write
from helpers.cluster.doctor import nodes as doctor_nodes
from helpers.cluster.doctor import probes as doctor_jobs
from helpers.cluster.doctor import table as doctor_table
from helpers.cluster.doctor.findings import Finding
from helpers.cluster.doctor.probes import Probe
from helpers.config import entries, layers, sites
from helpers.config.schema import Site
from helpers.jobs.follow import follow
from helpers.jobs.kinds.doctor import Doctor, Watch
from helpers.jobs.marks import Marks
from helpers.lib import disk, folders, private, values
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError
from helpers.lib.shell import assignments
from helpers.lib.signals import catch_signals, ignore_signals
from helpers.rendering import render, sealing
from helpers.runs import doctor_record

CHECKS = (login, doctor_nodes, equipment, network)  # each registers its own when it is imported
OVERRIDES = "jobs/overrides"  # as given with --set; a value may be a secret


def plan(site: Site, name: str, gpu: bool, wanted: tuple[str, ...], wait: int, options: dict[str, Any]) -> str:
    """Check all that needs no job, and make the probes' folder; returns shell assignments for scripts_hpc/lib/doctor.sh.

    name: as the person gave the site. options: write, as_json, terminal, overrides, as the record has them. Raises ConfigError and OSError.
    """
    _check(site, name, gpu, wanted, options)
    here = login.Here(site, wanted)
    _say("checking what needs no job …")
    _make_folders(site)
    found = findings.run("login", here)
    record = {
        "schema": 1,
        "created_at": values.now(),
        "site": site.name,
        "given": name,
        "gpu": gpu,
        "wait_minutes": wait,
    }
    record |= options | {"config": private.masked(site.model_dump(mode="json"))}
    blocked = _blocked(found)
    probes, refused = ([], {}) if blocked else doctor_jobs.refusals(site, doctor_jobs.planned(here, gpu, wait))
    record["refused"] = refused
    if not probes:
        found += [Finding("probes", findings.NOT_CHECKED, f"no job was submitted: {blocked}")] if blocked else []
        table, code = conclude(record, site, found, {})
        return assignments({"TABLE": table, "CODE": code})
    if gpu:
        count = next((probe.gpus for probe in probes if probe.gpus), 0)
        most = count * Probe.SECONDS / 60
        _say(f"the probe with {count} GPU(s) takes about {count} GPU-minute(s), {most:.0f} at most")
    return _folder(site, probes, found, record)


def _check(site: Site, name: str, gpu: bool, wanted: tuple[str, ...], options: dict[str, Any]) -> None:
    """What can't be asked of a site. Raises ConfigError."""
    for model in wanted:
        entries.model(model, site)
    if gpu and not (site.gpu.per_node and site.scheduler.kind == "slurm"):
        raise ConfigError(
            [f"--gpu: site {site.name} has no GPUs to ask its scheduler for (gpu.per_node, scheduler.kind)."]
        )
    if options["write"]:
        write.check(sites.site_file(name))


def _say(text: str) -> None:
    click.echo(text, err=True)


def _make_folders(site: Site) -> None:
    """Those that every run makes; what can't be made is a finding of the checks."""
    for key in login.OWNED:
        with contextlib.suppress(OSError):
            Path(getattr(site.paths, key)).mkdir(
                parents=True, exist_ok=True, mode=0o700 if key == "address_dir" else 0o777
            )


def _blocked(found: list[Finding]) -> str:
    """Why no probe can be submitted or heard of; empty where it can."""
    stops = ("scheduler", "cpu partition", "queue", "folder runs", "folder address_dir", "partitions", "jobs")
    bad = [one.check for one in found if one.state == findings.FAILURE and one.check in stops]
    return f"first mend {', '.join(bad)}" if bad else ""


def _folder(site: Site, probes: list[Probe], found: list[Finding], record: dict[str, Any]) -> str:
    marks = Marks(probes[0].nonce, probes[0].folders)
    marks.sweep()
    ignore_signals()  # who is told of the folder removes it
    folder = folders.make(Path(site.paths.runs), "_doctor", "jobs", "logs")
    workflow = render.Workflow(str(folder))
    files = {f"{name}.sh": text for name, text in doctor_jobs.scripts(site, folder, probes).items()}
    render.write(folder / "jobs", files, site, workflow)
    record |= {
        "nonce": marks.nonce,
        "folders": marks.folders,
        "probes": {probe.name: {"role": probe.role, "gpus": probe.gpus} for probe in probes},
        "findings": [one.data for one in found],
        "listings": {key: doctor_jobs.listing(path) for key, path in probes[0].listed.items()},
        **sealing.seal(folder),
    }
    (folder / OVERRIDES).touch(mode=0o600)
    (folder / OVERRIDES).write_text(json.dumps(record.pop("overrides")), encoding="utf-8")
    disk.write_json(folder / Doctor.RECORD, record)
    marks.write([])
    told = {
        "DOCTOR": folder,
        "NONCE": marks.nonce,
        "SCHEDULER": site.scheduler.kind,
        "ADDRESS_DIR": site.paths.address_dir,
    }
    after = " ".join(f"[{probe.name}]={probe.after}" for probe in probes if probe.after)
    lists = {"PROBES": [probe.name for probe in probes], "MARKED": marks.paths()}
    return f"{assignments(told, lists)}AFTER=({after})\n"


# ---- the end


def conclude(record: dict[str, Any], site: Site, found: list[Finding], reports: dict[str, Any]) -> tuple[str, int]:
    """What it comes to: written to the site's file where that is asked for, and noted; the table (or JSON), and the exit code."""
    nodes = doctor_nodes.Nodes(
        site, reports, record.get("refused") or {}, bool(record.get("gpu")), record.get("listings") or {}
    )
    found = [*found, *findings.run("nodes", nodes)]
    if record.get("write"):
        found = _write(record, found)
        site = sites.load_site(record["given"], record["overrides"])
    code = findings.code(found)
    try:
        doctor_record.write(site, code == 0, findings.summary(found), nodes.gpu)
    except OSError as error:
        _say(f"note: the result can't be noted in {doctor_record.path_of(site)}: {error.strerror}")
    if record.get("as_json"):
        return doctor_table.as_json(found, site.name), code
    return doctor_table.text(found, site.name, bool(record.get("terminal"))), code


def _write(record: dict[str, Any], found: list[Finding]) -> list[Finding]:
    sure = {one.key: one.value for one in found if one.value is not None}
    if not sure:
        _say("--write: nothing that is sure to write")
        return found
    path = sites.site_file(record["given"])
    write.put(path, sure)
    _say(f"wrote into {layers.shown(path)}: {', '.join(f'{key}: {value}' for key, value in sure.items())}")
    return [findings.written(one) if one.value is not None else one for one in found]


def watch(folder: Path, *_: Any) -> int:
    """Follow the probes of a doctor's folder, print the table, take everything away; the exit code."""

    return follow(Watch(folder, lambda jobs: tell(folder, jobs.record, jobs.reports)))


def tell(folder: Path, record: dict[str, Any], reports: dict[str, Any]) -> int:
    """Print what it comes to; the exit code."""
    record["overrides"] = json.loads((folder / OVERRIDES).read_text(encoding="utf-8"))
    site = sites.load_site(record["given"], record["overrides"])
    table, code = conclude(record, site, findings.load(record["findings"]), reports)
    click.echo(table)
    return code


# ---- the commands


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The steps of site.sh doctor."""


@main.command("plan")
@click.argument("name", required=False)
@SITE
@SET
@click.option("--gpu", is_flag=True)
@click.option("--model", "wanted", multiple=True)
@click.option("--wait", type=click.IntRange(1, 1440), default=10)
@click.option("--write", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--terminal", is_flag=True, hidden=True)
def plan_command(
    name: str | None,
    site: str | None,
    overrides: tuple[str, ...],
    gpu: bool,
    wanted: tuple[str, ...],
    wait: int,
    **options: Any,
) -> None:
    """Check what needs no job, and print shell assignments for scripts_hpc/lib/doctor.sh."""
    catch_signals()
    given = sites.pick_site(name or site)
    given = str(Path(given).resolve()) if given.endswith((".yaml", ".yml")) else given
    resolved = sites.load_site(given, list(overrides))
    click.echo(plan(resolved, given, gpu, wanted, wait, options | {"overrides": list(overrides)}), nl=False)


@main.command("watch")
@click.argument("folder", type=click.Path(path_type=Path))
def watch_command(folder: Path) -> None:
    """Follow the probes to their end."""
    sys.exit(watch(folder))


@main.command("refused")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("reason")
def refused_command(folder: Path, reason: str) -> None:
    """Tell what was found without probes, as a job of theirs was refused."""
    record = disk.read_json(folder / Doctor.RECORD) or {}
    sys.exit(tell(folder, record | {"refused": {"cpu": reason}}, {}))


if __name__ == "__main__":
    sys.exit(launch(main, "site.sh doctor"))
