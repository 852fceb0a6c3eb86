"""`site.sh doctor`: what it checks without a job, on the login node of a fake Slurm; and which probes it plans."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.cluster.doctor import cli, findings, login
from helpers.cluster.doctor import probes as doctor_jobs
from helpers.cluster.doctor import slurm as doctor_slurm
from helpers.cluster.doctor.findings import FAILURE, NOT_CHECKED, OK, WARNING, Finding
from helpers.cluster.doctor.login import Here
from helpers.config import sites
from helpers.jobs.marks import MARK, Marks
from helpers.lib import room
from helpers.lib.errors import ConfigError
from helpers.scheduler import cluster

TEXT = """
partitions: {{cpu: {{name: cpu}}, gpu: {{name: gpu}}}}
gpu: {{per_node: 2}}
container: {{runtime: apptainer}}
paths: {{runs: {0}/runs, data: {0}/data, models: {0}/models, containers: {0}/images, address_dir: {0}/addresses}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """A site on the fake Slurm, with an Apptainer and no image."""
    programs, slurm = tmp_path / "bin", tmp_path / "slurm"
    for folder in (programs, slurm, *(tmp_path / name for name in ("runs", "data", "models", "images"))):
        folder.mkdir()
    (tmp_path / "addresses").mkdir(mode=0o700)
    (programs / "apptainer").write_text("#!/bin/sh\necho apptainer version 1.4.5\n")
    (programs / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(slurm))
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "MLEBENCH_SOURCE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "here.yaml"
    file.write_text(TEXT.format(tmp_path))
    return Here(sites.load_site(str(file)))


def found(here: Here) -> dict[str, Finding]:
    return {one.check: one for one in findings.run("login", here)}


def test_a_new_cluster_lacks_images_and_nothing_else(here: Here) -> None:
    told = found(here)
    assert {name for name, one in told.items() if one.state == FAILURE} == {"image mlebench-env", "image aide"}
    assert told["image aide"].advice == "containers/build_all_containers.sh --site here --only aide"
    assert told["other images"].measured == "not built: experiment, mini-swe, prepare, repository, vllm"
    assert told["containers"].measured == "apptainer version 1.4.5"
    assert told["cpu partition"].measured == "cpu: 4 node(s), up"
    assert "grading_server" in told["jobs"].measured and told["data"].state == OK
    assert told["model 30b"].measured == "its weights aren't here: its first job fetches them"
    assert "gpt-mini (OPENAI_API_KEY)" in told["keys"].measured


def test_an_image_of_something_else_is_stale(here: Here) -> None:
    image = Path(here.site.paths.containers, "aide.sif")
    image.write_text("")
    assert found(here)["image aide"].measured == "nothing tells what it was built from"
    Path(f"{image}.build").write_text("0123\n\n")
    one = found(here)["image aide"]
    assert one.state == WARNING and "have changed since it was built" in one.measured
    text = login.images.definitions(here.site)["aide"]
    Path(f"{image}.build").write_text(login.images.fingerprint(text, "none") + "\n")
    assert found(here)["image aide"].state == OK


def test_folders_without_rights_or_room(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        login.room, "lacking", lambda folder: "your quota is used up" if folder.name == "runs" else None
    )
    one = found(here)["folder runs"]
    assert (one.state, one.key) == (FAILURE, "paths.runs") and "your quota is used up" in one.measured
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK) and Path(path).is_dir())
    told = found(here)
    assert told["folder runs"].state == FAILURE and told["folder data"].state == OK  # data may be read only
    assert told["folder data"].measured == f"{here.site.paths.data} can only be read"


def test_an_address_folder_of_another(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert found(here)["folder address_dir"].measured == f"{here.site.paths.address_dir} belongs to another user"


def test_a_partition_that_takes_no_jobs(here: Here) -> None:
    here.cluster.partitions["cpu"]["State"] = "DRAIN"
    one = found(here)["cpu partition"]
    assert (one.state, one.key) == (
        FAILURE,
        "partitions.cpu.name",
    ) and one.measured == "cpu is DRAIN, and takes no jobs"
    here.site.partitions.cpu.name = "nowhere"
    assert found(here)["cpu partition"].measured == "there is no partition 'nowhere'"


def test_what_sbatch_would_refuse(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TAKES", "nothing")
    told = found(here)
    assert told["job grading_server"].measured == "sbatch refuses it: Invalid qos specification"
    assert told["job grading_server"].state == FAILURE and told["job vllm_30b"].state == WARNING


def test_limits_are_told_with_their_key(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MAX_TIME", "02:00:00")
    one = found(here)["job grading_server"]
    assert one.state == FAILURE and "partition 'cpu' allows 02:00:00 (MaxTime)" in one.measured
    assert one.advice.startswith("lower jobs.grading_server.time of site here")
    assert "jobs.agent.time_limit" in found(here)["job agent_aide"].advice


def test_a_scheduler_that_does_not_answer_is_one_row(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HANGS", "sinfo scontrol sacctmgr sbatch")
    monkeypatch.setattr(cluster.Cluster, "SECONDS", 0.5)
    bad = [one for one in findings.run("login", here) if one.state == FAILURE and "image" not in one.check]
    assert [one.check for one in bad] == ["scheduler"] and "the scheduler doesn't answer" in bad[0].measured


def test_sbatch_that_does_not_answer(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HANGS", "sbatch")
    monkeypatch.setattr(cluster.Cluster, "SECONDS", 0.5)
    assert found(here)["jobs"].measured == "the scheduler doesn't answer: sbatch gave no answer within 0.5 s"


def test_a_model_that_runs_need(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.site.environment.offline = True
    assert found(here)["model 30b"].state == WARNING
    here.wanted = ("30b", "gpt-mini")
    told = found(here)
    assert told["model 30b"].state == FAILURE and told["image vllm"].state == FAILURE
    assert told["model gpt-mini"].measured == "OPENAI_API_KEY is neither in .env nor set"
    here.site.gpu.per_node = 0
    assert found(here)["model 30b"].key == "gpu.per_node"


def test_programs_that_are_not_here(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login.shutil, "which", lambda name: None if name in ("curl", "apptainer") else "/bin/x")
    told = found(here)
    assert told["programs"].measured == "not here: curl" and told["containers"].state == NOT_CHECKED


def test_what_a_check_raises_is_its_finding(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", "/x")

    monkeypatch.setattr(room, "lacking", fail)
    one = found(here)["folders"]
    assert (one.state, one.measured) == (FAILURE, "/x: Permission denied")


# ---- the probes


def test_two_nodes_are_probed_and_a_gpu_where_it_is_asked_for(here: Here) -> None:
    names = [
        (probe.name, probe.role, probe.gpus, probe.peers, probe.after) for probe in doctor_jobs.planned(here, True, 10)
    ]
    assert names == [
        ("cpu", "cpu", 0, ("peer",), ""),
        ("peer", "cpu", 0, ("cpu",), "cpu"),
        ("gpu", "gpu", 1, ("gpu_peer",), ""),
        ("gpu_peer", "cpu", 0, ("gpu",), "gpu"),
    ]
    first, second, *_ = doctor_jobs.planned(here, False, 10)
    assert first.options == ("--nodelist=n1", "--deadline=now+15minutes")
    assert second.options == ("--exclude=n1", "--deadline=now+15minutes")
    here.site.gpu.whole_node = True
    assert doctor_jobs.planned(here, True, 10)[2].gpus == 2


def test_a_probe_that_may_not_choose_its_node_goes_anywhere(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = doctor_jobs.planned(here, False, 10)
    refused = {"--nodelist=n1": "no such node", "--exclude=n1": None}

    def accepted(scripts: dict[str, str]) -> dict[str, Any]:
        return {
            name: next((why for option, why in refused.items() if option in text), None)
            for name, text in scripts.items()
        }

    monkeypatch.setattr(doctor_jobs, "accepted", accepted)
    taken, no = doctor_jobs.refusals(here.site, probes)
    assert [probe.options for probe in taken] == [(), ("--exclude=n1", "--deadline=now+15minutes")] and no == {}
    monkeypatch.setattr(doctor_jobs, "accepted", lambda scripts: dict.fromkeys(scripts, "no QOS"))
    assert doctor_jobs.refusals(here.site, probes) == ([], {"cpu": "no QOS", "peer": "no QOS"})


def test_folders_that_are_not_there_yet_or_only_to_be_read(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(here.site.paths.data).rmdir()
    (probe, *_) = doctor_jobs.planned(here, False, 10)
    assert probe.folders["data"] == str(Path(here.site.paths.data).parent)
    can = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: can(path, mode) and not (mode & os.W_OK and "images" in str(path))
    )
    (probe, *_) = doctor_jobs.planned(here, False, 10)
    assert probe.listed == {"containers": here.site.paths.containers} and "containers" not in probe.folders
    (Path(here.site.paths.containers) / "b").touch()
    shell = os.popen(f"LC_ALL=C ls -A {here.site.paths.containers} | sha256sum").read().split()[0]
    assert doctor_jobs.listing(here.site.paths.containers) == shell


def test_marks_are_written_over_swept_and_removed(tmp_path: Path) -> None:
    folders = {"runs": str(tmp_path / "a"), "data": str(tmp_path / "b"), "containers": str(tmp_path / "b")}
    for folder in set(folders.values()):
        Path(folder).mkdir()
    marks = Marks("feed", folders)
    marks.write([])
    file = tmp_path / "b" / f"{MARK}feed"
    inode = file.stat().st_ino
    assert file.read_text().startswith("feed data containers time=") and file.stat().st_mode & 0o777 == 0o600
    marks.write(["cpu", "peer"])
    assert file.stat().st_ino == inode and " seen=cpu seen=peer " in file.read_text()
    old, others = tmp_path / "a" / f"{MARK}dead.cpu", tmp_path / "a" / "data"
    for path in (old, others):
        path.touch()
        os.utime(path, (time.time() - 7200,) * 2)
    marks.sweep()
    assert not old.exists() and others.exists() and file.exists()
    marks.remove()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["data"]


def test_a_scheduler_without_an_answer_or_images_stops_before_or_not(here: Here) -> None:
    assert cli._blocked([Finding("image aide", FAILURE, "")]) == ""
    assert cli._blocked([Finding("scheduler", FAILURE, ""), Finding("queue", OK, "")]) == "first mend scheduler"


def test_gpus_that_a_site_does_not_have(here: Here) -> None:
    here.site.gpu.per_node = 0
    with pytest.raises(ConfigError, match="--gpu: site here has no GPUs"):
        cli.plan(here.site, "here", True, (), 10, {})


def test_a_proxy_with_a_password_is_not_passed_on(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:verysecret@proxy:3128")
    assert login.proxy_here(here.site) is None
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert login.proxy_here(here.site) == "http://proxy:3128"
    assert doctor_slurm.NEEDED_MODEL == "replay"
