"""`site.sh init`: what a cluster says of itself becomes a site file that passes, and each value says who told it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.cluster import facts, init
from helpers.cluster.draft import Draft
from helpers.config import entries, layers
from helpers.config import sites as sites_module
from helpers.lib.errors import ConfigError, Infrastructure

FAKES = Path(__file__).parents[1] / "fakes" / "slurm"
USER = "fake|science|science||normal||||\nfake|science|bench||day,normal||||"


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's site files without any cluster's, on a login node of the fake Slurm, with a scratch folder."""
    folder = tmp_path / "site-config"
    folder.mkdir()
    for name in ("default.yaml", "models.yaml", "agents.yaml"):
        shutil.copy(layers.SITE_DIR / name, folder)
    for module in (entries, layers, sites_module):
        monkeypatch.setattr(module, "SITE_DIR", folder)
    monkeypatch.setattr(init, "SITE_DIR", folder)
    monkeypatch.setattr(sites_module, "host_names", lambda: ["login3.fake.example.org"])
    for name in [name for name in os.environ if name.startswith(("HPC_", "FAKE_")) or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in facts.STORAGE:
        monkeypatch.delenv(name, raising=False)
    scratch, slurm, programs = tmp_path / "scratch", tmp_path / "slurm", tmp_path / "bin"
    for path in (scratch, slurm, programs):
        path.mkdir()
    (programs / "apptainer").write_text("#!/bin/sh\n")
    (programs / "apptainer").chmod(0o755)
    monkeypatch.setenv("SCRATCH", str(scratch))
    monkeypatch.setenv("FAKE_SLURM", str(slurm))
    monkeypatch.setenv("PATH", f"{FAKES}:{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(facts, "of_one_node", lambda path: None)
    return folder


def made(name: str = "mine") -> tuple[dict[str, Any], str]:
    """The site file of that name, as it is read, and its text."""
    path = init.init(name, ask=False)
    text = path.read_text()
    return yaml.safe_load(text), text


def test_a_cluster_without_accounting(sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, text = made()
    assert data["hostname_pattern"] == r"^login\d+\.fake\.example\.org$"
    assert data["partitions"] == {"cpu": {"name": "cpu"}, "gpu": {"name": "gpu"}}
    assert data["gpu"] == {"per_node": 2, "kind": "A100 40GB", "request": "--gres=gpu:{count}"}
    assert "scheduler" not in data  # no account is known, and sbatch takes a job without
    assert data["paths"]["data"] == "${SCRATCH}/hpc-agent-bench/data"
    assert data["container"] == {"runtime": "apptainer"}
    assert data["limits"]["max_array_size"] == 1001
    # 40 GB, where models.yaml counts with 80
    assert data["models"]["30b"] == {"gpus": 2, "tensor_parallel": 2}
    assert "# models: 80b needs 4 GPUs of 40 GB, and a node has 2." in text
    site = sites_module.load_site("mine")
    assert site.paths.runs == str(tmp_path / "scratch/hpc-agent-bench/runs")
    said = capsys.readouterr().out
    assert "wrote " in said and f"{text.count('# a guess')} of them guesses" in said
    # it was asked what it would take, and given nothing
    assert not (tmp_path / "slurm/calls").exists() and (tmp_path / "slurm/tested").read_text().count("--test-only") >= 4


def test_every_value_says_who_told_it(sites: Path) -> None:
    _, text = made()
    values = [
        line
        for line in text.splitlines()
        if line.strip() and not line.rstrip().endswith(":") and not line.startswith("#")
    ]
    assert [line for line in values if " # " not in line and not line.startswith("description")] == []


def test_values_come_in_any_order_and_of_any_kind() -> None:
    draft = Draft()
    values = {
        "jobs.agent.cpus": 4,
        "jobs.prepare.cpus": 1,
        "limits.max_submit": None,
        "jobs.agent.time_limit": 60,
        "description": "a: b # c",
    }
    values |= {
        "scheduler.account": "no",
        "environment.modules": ["a/1", "b"],
        "gpu.kind": "1e3",
        "scheduler.qos": "on-call",
    }
    for key, value in values.items():
        draft.put(key, value, "told # twice")
    draft.notes.append("a note")
    data = yaml.safe_load(draft.text(["head"]))
    for key, value in values.items():
        found = data
        for part in key.split("."):
            found = found[part]
        assert found == value, key


def test_the_cluster_names_the_file(sites: Path) -> None:
    assert init.init(None, ask=False) == sites / "fake.yaml"


def test_what_is_there_is_left_alone(sites: Path) -> None:
    (sites / "mine.yaml").write_text("description: mine\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml is there already, and is left as it is"):
        made()
    assert (sites / "mine.yaml").read_text() == "description: mine\n"
    assert sorted(path.name for path in sites.iterdir()) == ["agents.yaml", "default.yaml", "mine.yaml", "models.yaml"]


@pytest.mark.parametrize("name", ["default", "a b", "../x", "-x"])
def test_names_that_are_none(sites: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="can't be a site's name"):
        made(name)


def test_an_account_and_a_qos_that_are_demanded(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_USER", USER)
    monkeypatch.setenv("FAKE_ENFORCE", "associations,limits,qos")
    monkeypatch.setenv("FAKE_QOS", "|06:00:00|||")
    monkeypatch.setenv("FAKE_MAX_SUBMIT", "40")
    monkeypatch.setenv("FAKE_TAKES", "--account=science --qos=normal")
    data, text = made()
    assert data["scheduler"] == {"account": "science", "qos": "normal"}
    assert "the only one that sbatch --test-only takes there" in text
    assert data["limits"]["max_submit"] == 40
    # the default account is of no use in that partition
    monkeypatch.setenv("FAKE_TAKES", "--account=bench --qos=day")
    assert made("other")[0]["scheduler"] == {"account": "bench", "qos": "day"}
    monkeypatch.setenv("FAKE_TAKES", ".")
    data, text = made("free")
    assert data["scheduler"] == {"account": "science"} and "a guess, of science, bench" in text


def test_times_are_those_that_the_cluster_allows(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MAX_TIME", "04:00:00")
    data, _ = made()
    assert data["jobs"]["grading_server"]["time"] == data["jobs"]["model_server"]["time"] == "04:00:00"
    assert 0 < data["jobs"]["agent"]["time_limit"] < 4 * 3600 - 2700


def test_what_sbatch_refuses_is_told(
    sites: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_TAKES", "nothing")
    _, text = made()
    assert "# sbatch --test-only refuses a small job in partition cpu: Invalid qos specification" in text
    assert "note: sbatch --test-only refuses every job with a GPU: Invalid qos specification" in capsys.readouterr().out


def test_silence_is_no_refusal(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HANGS", "sbatch")
    monkeypatch.setattr(facts.Cluster, "SECONDS", 0.5)
    with pytest.raises(Infrastructure, match="gave no answer within 0.5 s"):
        made()
    assert not (sites / "mine.yaml").exists()


def test_memory_and_gpus_that_cannot_be_asked_for(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TAKES", "--time=10( [^-]*| --qos=[a-z]* .*)$")  # nothing more
    data, _ = made()
    assert data["scheduler"]["request_memory"] is False
    assert data["gpu"]["request"] is None and data["gpu"]["whole_node"] is True


@pytest.mark.parametrize(
    ("gres", "features", "kind", "vendor"),
    [
        ("gpu:4", "a100,gpu80,ib", "A100 80GB", None),
        ("gpu:a100_80gb:4", "", "A100 80GB", None),
        ("gpu:mi250x:8", "", "MI250X 64GB", "amd"),
        ("gpu:NVIDIA-H100:4", "", "H100 80GB", None),
        ("gpu:strange:1", "", "STRANGE", None),
        ("gpu:rtx_6000:4", "", "RTX6000 24GB", None),
        ("gpu:a100-sxm4-80gb:4", "", "A100 80GB", None),
        # a node's memory and processor are none of its GPUs'
        ("gpu:4", "a100,512gb,192gb", "A100 40GB", None),
        ("gpu:v:2", "intel4416,ft4x", "V", None),
        # https://github.com/basnijholt/slurm-usage/issues/11, https://github.com/DataDog/integrations-core/pull/24513
        ("gpu:8(S:0-3)", "h100", "H100 80GB", None),
        ("gpu:v100:1(S:0),gpu:a100:3(S:0-1)", "", "A100 40GB", None),
        # slices of a GPU
        ("gpu:a100_1g.5gb:14,gpu:a100:2(S:0-1)", "", "A100 40GB", None),
        ("gpu:a100_3g.20gb:4", "a100", "A100 20GB", None),
        ("gpu:1g.10gb:7", "", "1G.10GB 10GB", None),
    ],
)
def test_kinds_of_gpus(
    sites: Path, monkeypatch: pytest.MonkeyPatch, gres: str, features: str, kind: str, vendor: str | None
) -> None:
    monkeypatch.setenv("FAKE_GRES", gres)
    monkeypatch.setenv("FAKE_FEATURES", features)
    data, _ = made()
    assert data["gpu"]["kind"] == kind and data["gpu"].get("vendor") == vendor


def test_a_host_that_another_site_fits(sites: Path) -> None:
    (sites / "other.yaml").write_text("hostname_pattern: fake.example\n")
    data, text = made()
    assert "hostname_pattern" not in data and "other fits this host too" in text


def test_modules_bring_the_container_program(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADEDMODULES", "gcc/12:apptainer/1.3.4")
    assert made()[0]["environment"]["modules"] == ["apptainer/1.3.4"]


def test_a_proxy_with_a_password_is_not_written(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:verysecret@proxy:3128")
    _, text = made()
    assert "verysecret" not in text and "PROXY_PASSWORD" in text


def test_without_slurm(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="there is no sbatch on PATH"):
        made()


def test_a_scheduler_that_does_not_answer(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HANGS", "sinfo")
    monkeypatch.setattr(facts.Cluster, "SECONDS", 0.5)
    with pytest.raises(Infrastructure, match="the scheduler doesn't answer"):
        made()
    assert not (sites / "mine.yaml").exists()
