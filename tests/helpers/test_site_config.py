"""Layers, strictness and detection of the site configuration: every problem at once, each naming file, key and fix."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helpers.config import entries, schema, sites
from helpers.config.sites import load_site, pick_site
from helpers.lib.errors import ConfigError
from helpers.rendering import render

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path: Path):
    def write_site(name: str, text: str) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return str(path)

    return write_site


def problems_of(call, *arguments) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return caught.value.problems


def test_layers_merge_key_by_key(write) -> None:
    parent = write("parent", "partitions: {cpu: {name: a, qos: q}, gpu: {name: g}}\nlimits: {max_submit: 5}\n")
    child = write("child", f"extends: {parent}\npartitions: {{cpu: {{name: b}}}}\n")
    site = load_site(child, ["limits.grace_seconds=7"])
    assert (site.partitions.cpu.name, site.partitions.cpu.qos, site.partitions.gpu.name) == ("b", "q", "g")
    assert (site.limits.max_submit, site.limits.grace_seconds, site.name) == (5, 7, "child")


def test_a_path_to_extend_is_relative_to_the_file_that_names_it(write, monkeypatch) -> None:
    write("parent", "limits: {max_submit: 5}\n")
    child = write("child", "extends: parent.yaml\n")
    monkeypatch.chdir("/")
    assert load_site(child).limits.max_submit == 5


def test_environment_is_weaker_than_the_command_line(write, monkeypatch) -> None:
    path = write("s", "limits: {grace_seconds: 1}\n")
    monkeypatch.setenv("HPC_LIMITS__GRACE_SECONDS", "2")
    assert load_site(path).limits.grace_seconds == 2
    assert load_site(path, ["limits.grace_seconds=3"]).limits.grace_seconds == 3


def test_all_problems_at_once_with_file_key_and_fix(write, monkeypatch) -> None:
    path = write(
        "bad",
        "schedular: {kind: slurm}\nlimits: {grace_seconds: soon}\n"
        "partitions: {cpu: {nmae: x}}\nscheduler: {account: '${NOT_SET_ANYWHERE}'}\n",
    )
    found = "\n".join(problems_of(load_site, path))
    assert "bad.yaml: schedular: unknown key" in found
    assert "bad.yaml: limits.grace_seconds" in found and "'soon'" in found
    assert (
        "bad.yaml: partitions.cpu.nmae: unknown key. Keys here: account, constraint, extra_sbatch, name, qos." in found
    )
    assert "scheduler.account: ${NOT_SET_ANYWHERE} is not set: export NOT_SET_ANYWHERE=…" in found


def test_an_override_is_named_as_the_culprit(write) -> None:
    found = problems_of(load_site, write("s", ""), ["limits.grace_seconds=never"])
    assert found == [
        "--set limits.grace_seconds: limits.grace_seconds: Input should be a valid integer, "
        "unable to parse string as an integer (found 'never')."
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", "not valid YAML"),
        ("- a\n", "must hold `key: value` lines"),
        ("extends: nowhere\n", "there is no site-config/nowhere.yaml. Known sites: "),
        ("jobs: {agent: {time_limit: 0}}\n", "jobs.agent.time_limit"),
        ("jobs: {grading_server: {time: 24h}}\n", "jobs.grading_server.time"),
        ("network: {ports: [5000, 4000]}\n", "ports must be [lowest, highest]"),
        ("limits: {run_gb: 0}\n", "limits.run_gb"),
        ("limits: {run_files: many}\n", "limits.run_files"),
        ("container: {binds: [relative/path]}\n", "container.binds"),
        ("paths: {scratch: '/tmp; rm -rf /'}\n", "paths.scratch"),
        ("environment: {variables: {'A B': x}}\n", "environment.variables.A B"),
    ],
)
def test_bad_files_are_named(write, text: str, said: str) -> None:
    found = "\n".join(problems_of(load_site, write("s", text)))
    assert said in found and "s.yaml" in found


def test_a_file_that_extends_itself(write, tmp_path: Path) -> None:
    path = write("loop", f"extends: {tmp_path}/loop.yaml\n")
    assert "extends itself" in problems_of(load_site, path)[0]


def test_an_unquoted_clock_is_still_a_clock(write) -> None:
    site = load_site(write("s", "jobs: {model_server: {time: 99:30:00}, grading_server: {time: 1-00:00:00}}\n"))
    assert (site.jobs.model_server.time, site.jobs.grading_server.time) == ("99:30:00", "1-00:00:00")


def test_a_variable_set_to_nothing_is_no_value(write, monkeypatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    assert load_site(write("s", "environment: {ca_bundle: '${EMPTY}'}\n")).environment.ca_bundle is None


def test_unknown_site_lists_the_known_ones() -> None:
    assert problems_of(load_site, "nirvana")[0].startswith(
        "site 'nirvana': there is no site-config/nirvana.yaml. Known sites: alpha"
    )
    assert "models" not in sites.site_names()


def test_relative_paths_start_at_the_repository_and_scratch_is_left_to_the_job(write, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", "/login/node/only")
    site = load_site(write("s", "paths: {data: mine, models: ~/m}\n"))
    assert site.paths.data == str(sites.ROOT / "mine")
    assert site.paths.models == str(Path.home() / "m")
    assert site.paths.scratch == "${TMPDIR:-/tmp}"


@pytest.mark.parametrize("key", ["data", "runs", "tasks", "models", "address_dir", "notebooks"])
@pytest.mark.parametrize("value", ["/scratch/a:b", "/scratch/a,b", "/scratch/a\\b", "/scratch/a\nb"])
def test_a_path_that_would_break_a_job_is_refused_by_its_key(write, key: str, value: str) -> None:
    file = write("here", f"container: {{runtime: apptainer}}\npaths: {{{key}: {json.dumps(value)}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_site(str(file))
    [problem] = caught.value.problems
    assert f": paths.{key}: {value!r} holds " in problem
    if "," in value or (":" in value and key != "runs"):  # jobs find their code there, by PYTHONPATH
        load_site(str(file), ["container.runtime=none"])


def test_a_log_folder_is_quoted_for_sbatch(write) -> None:
    file = write("here", "paths: {runs: /scratch/my runs/100%}\nscheduler: {constraint: a&b, account: some one}\n")
    script = render.grading_script(load_site(str(file)))
    assert "#SBATCH --output='/scratch/my runs/100%%/logs'/%x-%j.out\n" in script
    assert "#SBATCH --constraint=a&b\n" in script and "#SBATCH --account='some one'\n" in script


def called(monkeypatch, host: str, turned_back: str | None = None) -> None:
    """This machine's name, and the one that looking up its address gives."""
    monkeypatch.setattr("socket.gethostname", lambda: host.partition(".")[0])
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, host, ("127.0.0.1", 0))])
    monkeypatch.setattr("socket.getfqdn", lambda: turned_back or host)


def test_pick_site(monkeypatch, tmp_path: Path) -> None:
    called(monkeypatch, "della9.princeton.edu")
    assert pick_site("x") == "x"
    monkeypatch.setenv("HPC_SITE", "y")
    assert pick_site(None) == "y"
    monkeypatch.delenv("HPC_SITE")
    assert pick_site(None) == "della"
    called(monkeypatch, "laptop.example")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pick_site(None) == "local"
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert "no site file fits host laptop.example" in problems_of(pick_site, None)[0]


def test_the_name_that_hostname_says_counts_and_is_named(monkeypatch, tmp_path: Path) -> None:
    """`127.0.0.1 localhost della9` in /etc/hosts: Python's getfqdn says localhost, `hostname -f` doesn't."""
    called(monkeypatch, "della9.princeton.edu", turned_back="localhost")
    assert pick_site(None) == "della"
    called(monkeypatch, "nowhere.example", turned_back="localhost")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    said = problems_of(pick_site, None)[0]
    assert "fits host nowhere.example" in said and "localhost" not in said


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: entries.model("cooder"), "Did you mean coder?"),
        (lambda: entries.agent("aidee"), "Did you mean aide?"),
        (lambda: load_site("dela"), "Did you mean della?"),
        (lambda: load_site("della", ["limits.max_submitt=3"]), "Did you mean max_submit?"),
    ],
)
def test_a_typo_is_guessed(ask, said: str) -> None:
    assert said in "\n".join(problems_of(ask))


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("della8.princeton.edu", "della"),
        ("login05.perlmutter.nersc.gov", "perlmutter"),
        ("login2.frontier.olcf.ornl.gov", "frontier"),
        ("login02.leonardo.local", "leonardo"),
        ("login1.vista.tacc.utexas.edu", "vista"),
        ("login1.ls6.tacc.utexas.edu", "lonestar"),
        ("login1.capella.hpc.tu-dresden.de", "capella"),
        ("login1.alpha.hpc.tu-dresden.de", "alpha"),
        ("jwlogin08.juwels", "juwels"),
        ("jrlogin05.jureca", "jureca"),
        ("log-1.hpc.nyu.edu", "nyugreene"),
        ("cronut.example.org", None),
        ("c4.example.org", None),
    ],
)
def testhost_names(host: str, site: str | None, monkeypatch, tmp_path: Path) -> None:
    called(monkeypatch, host)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pick_site(None) == (site or "local")


def test_every_model_and_agent_entry_loads() -> None:
    assert {"30b", "80b", "coder", "replay"} <= entries.models().keys()
    assert entries.models()["80b"].tensor_parallel == 2
    assert not entries.models()["replay"].is_language_model
    for name in entries.agents():
        assert (entries.agent(name).path / "start.sh").is_file()


def test_a_site_changes_a_model(write) -> None:
    site = load_site(write("s", "models: {30b: {gpus: 2, tensor_parallel: 2}}\n"))
    assert entries.model("30b", site).gpus == 2 and entries.model("30b", site).served_name == "qwen3-30b"
    broken = load_site(write("t", "models: {30b: {gpsu: 2}}\n"))
    assert "models of site t: 30b.gpsu: unknown key" in problems_of(entries.model, "30b", broken)[0]


def test_unknown_model_and_agent_list_the_known_ones() -> None:
    assert problems_of(entries.model, "31b")[0].startswith(
        "model '31b': not in site-config/models.yaml. Known models: 30b, 80b"
    )
    assert "Known agents: aide, mini-swe, baseline" in problems_of(entries.agent, "aidee")[0]


def test_an_external_model_needs_its_variables(monkeypatch) -> None:
    assert len(problems_of(entries.model, "endpoint")) == 2
    monkeypatch.setenv("MODEL_NAME", "m")
    monkeypatch.setenv("MODEL_BASE_URL", "http://x/v1")
    assert entries.model("endpoint").base_url == "http://x/v1"


def keys_of(kind, prefix: str = "") -> list[str]:
    """Every key of a model, with those of the models in it."""
    found = []
    for name, field in kind.model_fields.items():
        inner = field.annotation
        is_section = isinstance(inner, type) and issubclass(inner, schema.Strict)
        found += keys_of(inner, f"{prefix}{name}.") if is_section else [f"{prefix}{name}"]
    return found


def test_every_key_of_a_site_is_read_by_something() -> None:
    # what stands there for people alone
    told = {"description", "sources", "gpu.kind"}
    files = [*ROOT.glob("helpers/**/*.py"), *ROOT.glob("templates/**/*.j2"), *ROOT.glob("containers/*.sh")]
    text = "\n".join(path.read_text() for path in files)
    unread = [
        key for key in keys_of(schema.Site) if key not in told and not re.search(rf"[.\"']{key.split('.')[-1]}\b", text)
    ]
    assert unread == []


@pytest.mark.parametrize(("reaped", "grace"), [("null", 1800), ("31", 1800), ("10", 540), ("1", 30)])
def test_a_server_ends_before_the_sites_reaper_would_end_it(write, reaped: str, grace: int) -> None:
    site = load_site(write("here", "{}"), [f"limits.gpu_idle_minutes={reaped}"])
    for name, seconds in (("30b", grace), ("replay", 1800)):
        script = render.model_script(site, entries.model(name, site))
        assert f"\nGRACE={seconds}\n" in script and ("GRACE_KEY=limits.gpu_idle_minutes" in script) == (seconds < 1800)


@pytest.mark.parametrize(
    ("own", "given", "found"),
    [
        ("", {}, {}),
        (
            "proxy: 'http://p:1'\n  no_proxy: [.here]",
            {"https_proxy": "http://q:2", "no_proxy": "x"},
            {"http_proxy": "http://p:1", "https_proxy": "http://p:1", "no_proxy": ".here,x,localhost,127.0.0.1"},
        ),
        (
            "offline: false",
            {"HTTPS_PROXY": "http://q:2", "NO_PROXY": "localhost,y"},
            {"https_proxy": "http://q:2", "no_proxy": "localhost,y,127.0.0.1"},
        ),
        ("no_proxy: [.here]", {}, {"no_proxy": ".here,localhost,127.0.0.1"}),
    ],
)
def test_the_way_to_the_internet(write, own: str, given: dict[str, str], found: dict[str, str]) -> None:
    site = load_site(write("s", f"environment:\n  {own}\n" if own else "limits: {grace_seconds: 1}\n"))
    assert site.environment.proxies(given) == found
