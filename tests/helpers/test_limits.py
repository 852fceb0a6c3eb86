"""What is asked for is compared with what the cluster allows, before anything is submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.config.sites import load_site
from helpers.lib import durations
from helpers.scheduler import limits
from helpers.scheduler.cluster import Cluster

# as Slurm 22.05 prints them
NODES = "long|2|8|64000|(null)\nshort*|2|8|64000|(null)\naccel|1|64|128000|gpu:a100:2(S:0-1),tmp:1\naccel|1|8|512000|(null)\n"
PARTITION = (
    "PartitionName={} AllowGroups=ALL AllowAccounts={} AllowQos={} AllocNodes=ALL Default={} QoS={} MaxTime={} "
    "MaxCPUsPerNode=UNLIMITED Nodes=n[1-2] State=UP MaxMemPerNode=UNLIMITED TRES=cpu=16,mem=125G,node=2\n"
)
PARTITIONS = (
    PARTITION.format("long", "science", "day,night", "NO", "N/A", "12:00:00")
    + PARTITION.format("short", "ALL", "ALL", "YES", "N/A", "00:10:00")
    + PARTITION.format("accel", "ALL", "ALL", "NO", "gpus", "UNLIMITED")
)
CONFIG = "AccountingStorageEnforce = {}\nClusterName             = here\n"
USER = "there|bench|elsewhere||normal||||\nhere|bench|bench||normal||||\nhere|bench|science||day,normal||1-00:00:00|cpu=6|\n"
QOS = "normal|||||\nday||02:00:00|||\nnight|PartitionTimeLimit||||\ngpus||||gres/gpu=1|\n"


@pytest.fixture
def site(tmp_path: Path) -> Any:
    path = tmp_path / "here.yaml"
    path.write_text("scheduler: {kind: slurm}\npartitions: {cpu: {name: long}, gpu: {name: accel}}\n")
    return load_site(str(path))


def problems(site: Any, options: str, script: str = "agent.sh", enforce: str = "none", **told: str | None) -> list[str]:
    cluster = Cluster()
    answers = {
        "nodes": NODES,
        "partitions": PARTITIONS,
        "config": CONFIG.format(enforce),
        "user": USER,
        "qos": QOS,
        **told,
    }
    cluster.__dict__["_told"] = {name: text for name, text in answers.items() if text is not None}
    text = "#!/usr/bin/env bash\n" + "".join(f"#SBATCH {option}\n" for option in options.split())
    return limits.problems(site, {script: text}, cluster)


ENOUGH = "--time=12:00:00 --cpus-per-task=8 --mem=62G --account=science --qos=day --partition=long"


def test_what_the_cluster_allows_is_no_problem(site: Any) -> None:
    assert problems(site, ENOUGH) == []
    assert problems(site, "--time=2-00:00:00 --gres=gpu:2 --cpus-per-task=64 --partition=accel") == []


def test_without_scontrol_and_accounting_sizes_alone_are_compared(site: Any) -> None:
    nothing = {"partitions": None, "config": None, "user": None, "qos": None}
    assert problems(site, "--time=9-00:00:00 --partition=long", **nothing) == []
    (said,) = problems(site, "--cpus-per-task=9 --partition=long", **nothing)
    assert "9 CPUs, and a node of partition 'long' has 8 CPUs at most" in said


@pytest.mark.parametrize(
    ("asked", "script", "said"),
    [
        (
            "--time=12:00:01 --partition=long",
            "agent.sh",
            "the agent's job asks for 12:00:01, and partition 'long' allows 12:00:00 (MaxTime): lower --time-limit, or "
            "jobs.agent.time_limit of site here, or choose another partition: partitions.cpu.name of site here.",
        ),
        (
            "--time=00:20:00",
            "prepare.sh",
            "the job prepare asks for 00:20:00, and partition 'short' allows 00:10:00 (MaxTime): lower jobs.prepare.time of site "
            "here, or choose another partition: partitions.cpu.name of site here.",
        ),
        (
            "--mem=64G --partition=long",
            "grading_server.sh",
            "the job grading server asks for 64 GB, and a node of partition 'long' has 62.5 GB at most: lower "
            "jobs.grading_server.cpus or .memory_gb of site here, or choose another partition: partitions.cpu.name of site here.",
        ),
        (
            "--gres=gpu:3 --partition=accel",
            "vllm_30b.sh",
            "the job of model '30b' asks for 3 GPUs, and a node of partition 'accel' has 2 GPUs at most: lower gpus, cpus or "
            "memory_gb of the model in site-config/models.yaml, or choose another partition: partitions.gpu.name of site here.",
        ),
        (
            "--gpus-per-node=a100:1 --mem=200G --partition=accel",
            "vllm_30b.sh",
            "the job of model '30b' asks for 200 GB and 1 GPU, and no node of partition 'accel' has them together: lower gpus, cpus "
            "or memory_gb of the model in site-config/models.yaml, or choose another partition: partitions.gpu.name of site here.",
        ),
        (
            "--account=art --partition=long",
            "notebook.sh",
            "the job notebook asks for account 'art', which partition 'long' doesn't take (AllowAccounts: science): set "
            "scheduler.account or scheduler.qos (or partitions.cpu.account, .qos) of site here.",
        ),
        (
            "--partition=long",
            "agent.sh",
            "the agent's job asks for account 'bench', your default one, which partition 'long' doesn't take (AllowAccounts: "
            "science): set scheduler.account or scheduler.qos (or partitions.cpu.account, .qos) of site here.",
        ),
        (
            "--partition=long -qweek --account=science",
            "agent.sh",
            "the agent's job asks for QOS 'week', which partition 'long' doesn't take (AllowQos: day,night): set "
            "scheduler.account or scheduler.qos (or partitions.cpu.account, .qos) of site here.",
        ),
    ],
)
def test_an_error_names_the_key_the_value_and_the_limit(site: Any, asked: str, script: str, said: str) -> None:
    account = "" if "account" in said else " --account=science"
    assert problems(site, asked + account, script) == [said]


def test_of_several_partitions_one_that_can_start_it_is_enough(site: Any) -> None:
    assert problems(site, f"{ENOUGH} --partition=short,long") == []
    assert len(problems(site, f"{ENOUGH} --partition=short,long --time=13:00:00")) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("--account=art", "account 'art', and yours are: bench, science (sacctmgr); set scheduler.account"),
        ("--account=bench --qos=day", "QOS 'day', and account 'bench' may use: normal (sacctmgr)"),
        (
            "--account=science --qos=day --time=03:00:00 --partition=accel",
            "03:00:00, and QOS 'day' allows 02:00:00 (MaxWall)",
        ),
        (
            "--account=science --time=2-00:00:00 --partition=accel",
            "2-00:00:00, and account 'science' allows 1-00:00:00 (MaxWall)",
        ),
        (
            "--account=science --cpus-per-task=7 --partition=accel",
            "7 CPUs, and account 'science' allows 6 CPUs (maxtres)",
        ),
        ("--account=science --gres=gpu:2 --partition=accel", "2 GPUs, and QOS 'gpus' allows 1 GPU (grptres)"),
    ],
)
def test_limits_of_accounts_and_qos_count_where_they_are_enforced(site: Any, asked: str, said: str) -> None:
    (found,) = problems(site, asked, enforce="associations,limits,qos,safe")
    assert said in found
    assert problems(site, asked) == []


def test_a_qos_may_outlast_its_partition(site: Any) -> None:
    asked = "--account=science --partition=long --time=13:00:00 --qos=night"
    rows = USER.replace("day,normal", "day,night")
    assert problems(site, asked, enforce="limits,qos", user=rows) == []


def test_times_as_slurm_writes_them() -> None:
    times = ("UNLIMITED", "", "2-00:00:00", "12:00:01", "90", "90:30", "1-12", "1-12:30")
    assert [durations.seconds(text) for text in times] == [None, None, 172800, 43201, 5400, 5430, 129600, 131400]
