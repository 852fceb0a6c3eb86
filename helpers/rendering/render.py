"""Job scripts and container definitions from templates, site, model and agent; text out, nothing else happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from helpers.config.layers import VARIABLE
from helpers.config.schema import AgentEntry, Model, Site
from helpers.config.sites import ROOT
from helpers.lib import durations
from helpers.lib.private import is_secret
from helpers.rendering import sealing

TEMPLATES = ROOT / "templates"
SERVER_START_MINUTES = 15  # containers, imports and the last grading, on top of what the model and the agent may take


@dataclass(frozen=True)
class Workflow:
    """What a workflow adds to a script. run_group: its directory; cleanup: "on" or "off"; arrays: whether agents are elements of arrays."""

    run_group: str
    cleanup: str = "on"
    arrays: bool = False


def environment(folder: str) -> Environment:
    """The one way that templates are filled in: an unknown name is an error, blocks leave no blank lines."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES / folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["sh"] = lambda value: shlex.quote(str(value))
    env.filters["log_folder"] = lambda path: directive(path.replace("%", "%%"))
    return env


AGENT_LEAD = 180  # seconds before its time limit at which an agent's job is told: time to grade what is there


def directive(value: str) -> str:
    """A value for a #SBATCH line, which has the quotes of a shell, and comments, and none of its other characters."""
    return shlex.quote(value) if re.search(r"[\s'\"#]", value) else value


def sbatch_options(site: Site, role: str, gpus: int = 0) -> list[str]:
    """The #SBATCH options that depend on the site, in a fixed order; those that aren't set don't appear."""
    values = site.role(role)
    options = [
        f"--{key}={directive(values[key])}"
        for key in ("partition", "account", "qos", "constraint", "reservation")
        if values[key]
    ]
    if gpus and site.gpu.request:
        options.append(site.gpu.request.replace("{count}", str(gpus)))
    return options + values["extra"]


def gpus_of(site: Site, model: Model) -> int:
    """GPUs that a model's job is given: the whole node where the site gives nothing less."""
    return site.gpu.per_node if model.gpus and site.gpu.whole_node else model.gpus


def agent_time_limit(site: Site, agent: AgentEntry, given: int | None = None) -> int:
    """Seconds that an agent may take: as given for the run, else its own, else the site's."""
    return given or agent.time_limit or site.jobs.agent.time_limit


def agent_seconds(time_limit: int, models: list[Model]) -> int:
    """Time limit of an agent's job: what the agent may take, and what it may have to wait for its models to load."""
    return time_limit + max((model.load_minutes for model in models), default=0) * 60 + SERVER_START_MINUTES * 60


def _job(site: Site, workflow: Workflow | None, **values: Any) -> dict[str, Any]:
    grace, reaped = site.limits.grace_seconds, site.limits.gpu_idle_minutes
    if workflow is None or workflow.cleanup == "off":
        grace = site.limits.idle_server_minutes * 60
    key = None
    if values.get("gpus") and reaped is not None and grace > reaped * 60 - 60:
        grace, key = max(reaped * 60 - 60, 30), "limits.gpu_idle_minutes"
    logs = f"{workflow.run_group}/logs" if workflow else f"{site.paths.runs}/logs"
    root = f"{workflow.run_group}/{sealing.CODE}" if workflow else str(ROOT)
    shared = {"logs": logs, "private": str(private_file(site, workflow)), "root": root, "sealed": workflow is not None}
    return {"gpus": 0, "lead": 60, "grace": grace, "grace_key": key, "name": values["script"], **shared, **values}


def private_file(site: Site, workflow: Workflow | None) -> Path:
    """Where jobs find what they export and others may not read."""
    if workflow:
        return Path(workflow.run_group, "jobs", "environment")
    return Path(site.paths.address_dir, f"environment.{site.name}")


def secrets_of(site: Site) -> dict[str, str]:
    """What the site's jobs export that looks like a secret."""
    return {name: value for name, value in site.environment.exports().items() if is_secret(name, value)}


def write(folder: Path, files: dict[str, str], site: Site, workflow: Workflow | None = None) -> None:
    """Write scripts into a folder, and what stands in none of them into a file of the user's own."""
    if secrets := secrets_of(site):
        path = private_file(site, workflow)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in secrets.items())
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def venvs(*names: str) -> dict[str, str]:
    """The folders of the project's virtual environments, by the rule of scripts_hpc/lib/python.sh."""
    script = 'ROOT=$1; . "$ROOT/scripts_hpc/lib/python.sh"; shift; python::home "$@"'
    told = subprocess.run(["bash", "-c", script, "bash", ROOT, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, told.stdout.splitlines(), strict=True))


def _fill(template: str, site: Site, workflow: Workflow | None, job: dict[str, Any], **values: Any) -> str:
    # outside containers the jobs use the project's own environments; inside, the image's Python
    needs = [match[1] or match[3] for match in VARIABLE.finditer(site.paths.scratch) if match[2] is None]
    names = ("core", "experiment", *([values["agent"].environment] if "agent" in values else []))
    homes = dict.fromkeys(names, "") if site.isolated else venvs(*names)
    return (
        environment("sbatch")
        .get_template(template)
        .render(
            site=site,
            root=str(ROOT),
            workflow=workflow,
            job=job,
            secrets=secrets_of(site),
            venvs=homes,
            scratch_variables=needs,
            **values,
        )
    )


def grading_script(site: Site, workflow: Workflow | None = None) -> str:
    """The grading server's job script."""
    wants = site.jobs.grading_server
    job = _job(
        site,
        workflow,
        script="grading_server",
        time=wants.time,
        cpus=wants.cpus,
        memory_gb=wants.memory_gb,
        options=sbatch_options(site, "cpu"),
    )
    return _fill("grading_server.sh.j2", site, workflow, job)


def model_script(site: Site, model: Model, workflow: Workflow | None = None) -> str:
    """The job script of a model server (vLLM, or replay)."""
    gpus = gpus_of(site, model)
    job = _job(
        site,
        workflow,
        script=f"vllm_{model.name}",
        time=site.jobs.model_server.time,
        cpus=model.cpus,
        memory_gb=model.memory_gb,
        gpus=gpus,
        options=sbatch_options(site, "gpu" if gpus else "cpu", gpus),
    )
    return _fill("vllm.sh.j2", site, workflow, job, model=model)


def agent_script(
    site: Site,
    agent: AgentEntry,
    workflow: Workflow | None = None,
    code_model: Model | None = None,
    feedback_model: Model | None = None,
    steps: int | None = None,
    time_limit: int | None = None,
    script: str | None = None,
) -> str:
    """The job script of an agent. steps, time_limit (seconds): instead of the agent's and the site's own.

    script: path of a file that the agent is to run, for agents that take one.
    """
    limit = agent_time_limit(site, agent, time_limit)
    roles = {"CODE": code_model, "FEEDBACK": feedback_model or code_model}
    job = _agent_job(site, agent, workflow, limit, [model for model in roles.values() if model])
    external = {role: model for role, model in roles.items() if model and model.engine == "external"}
    return _fill(
        "agent.sh.j2",
        site,
        workflow,
        job,
        agent=agent,
        agent_files=_agent_files(agent, job),
        model=code_model,
        external=external,
        step_limit=steps or (code_model and code_model.steps) or agent.steps,
        time_limit=limit,
        script=script,
    )


def _agent_job(
    site: Site, agent: AgentEntry, workflow: Workflow | None, limit: int, models: list[Model]
) -> dict[str, Any]:
    wants = site.jobs.agent
    return _job(
        site,
        workflow,
        script=f"agent_{agent.file_name}",
        # a job of its own can't know how long its model takes to load
        time=durations.clock(agent_seconds(limit, models) if models or not agent.needs_model else limit + 3600),
        cpus=wants.cpus,
        memory_gb=wants.memory_gb,
        options=sbatch_options(site, "cpu"),
        lead=AGENT_LEAD,
    )


def together_script(workflow: Workflow, time: str) -> str:
    """The script of an array of agents of several kinds, on one machine."""
    return environment("sbatch").get_template("agents.sh.j2").render(workflow=workflow, time=time)


def _agent_files(agent: AgentEntry, job: dict[str, Any]) -> str:
    if not job["sealed"]:
        return str(agent.path)
    return f"{job['root']}/{sealing.place_of(agent.path) or Path(sealing.AGENTS, agent.folder)}"


def grade_script(site: Site, workflow: Workflow) -> str:
    """The script of a job that has graded what an earlier run had submitted; no agent runs in it."""
    wants = site.jobs.grading_server
    job = _job(
        site,
        workflow,
        script="grade",
        time=durations.clock(min(3600, durations.seconds(wants.time))),
        cpus=1,
        memory_gb=wants.memory_gb,
        options=sbatch_options(site, "cpu"),
    )
    return _fill("grade.sh.j2", site, workflow, job)


def notebook_script(site: Site, time_limit: int | None = None, workflow: Workflow | None = None) -> str:
    """The job script of JupyterLab: resources and time limit (seconds) of an agent's job. workflow: whose folder has its log."""
    wants = site.jobs.agent
    limit = time_limit or wants.time_limit
    job = _job(
        site,
        workflow,
        script="notebook",
        time=durations.clock(limit),
        cpus=wants.cpus,
        memory_gb=wants.memory_gb,
        options=sbatch_options(site, "cpu"),
        grace=limit,  # it has no jobs as consumers, and ends itself when its user is gone
    )
    return _fill("notebook.sh.j2", site, None, job)


def prepare_script(
    site: Site,
    workflow: Workflow | None = None,
    threads: int | None = None,
    options: Sequence[str] = (),
    raw: Path | None = None,
) -> str:
    """The job script of a preparation. threads, options, raw: of helpers.prepare_all_tasks."""
    wants = site.jobs.prepare
    job = _job(
        site,
        workflow,
        script="prepare",
        time=wants.time,
        cpus=wants.cpus,
        memory_gb=wants.memory_gb,
        options=sbatch_options(site, "cpu"),
    )
    extra = {"threads": threads or wants.cpus, "options": options, "seconds": durations.seconds(wants.time), "raw": raw}
    return _fill("prepare.sh.j2", site, workflow, job, **extra)


def doctor_script(site: Site, workflow: Workflow, probe: Any) -> str:
    """The script of a probe job of `site.sh doctor`. probe: helpers.cluster.doctor.probes.Probe."""
    job = _job(
        site,
        workflow,
        script=f"doctor_{probe.name}",
        time=durations.clock(probe.SECONDS),
        cpus=1,
        memory_gb=1,
        gpus=probe.gpus,
        options=[*sbatch_options(site, probe.role, probe.gpus), *probe.options],
        lead=10,
    )
    return _fill("doctor.sh.j2", site, workflow, job, probe=probe, venv=venvs("core")["core"])


def definition_files(site: Site) -> dict[str, str]:
    """Every container definition of a site: file name -> text."""
    env = environment("containers")
    names = [name for name in env.list_templates() if name.endswith(".def.j2") and not name.startswith("_")]
    return {name.removesuffix(".j2"): env.get_template(name).render(site=site, root=str(ROOT)) for name in names}


def site_files(site: Site, models: list[Model], agents: list[AgentEntry]) -> dict[str, str]:
    """Everything that can be rendered for a site: file name -> text."""
    files = {"slurm_grading_server.sh": grading_script(site), "slurm_prepare.sh": prepare_script(site)}
    files["slurm_notebook.sh"] = notebook_script(site)
    files |= {
        f"slurm_vllm_{model.name}.sh": model_script(site, model) for model in models if model.engine != "external"
    }
    # a variant differs in values only: run_workflow.sh renders it when it is asked for
    files |= {f"slurm_agent_{agent.name}.sh": agent_script(site, agent) for agent in agents if "/" not in agent.name}
    return files | definition_files(site)
