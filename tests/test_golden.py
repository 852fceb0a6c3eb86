"""The rendered text of every site × template × model, compared whole; `make golden` writes it anew.

tests/golden/local/ holds the complete texts of the site `local`; tests/golden/<site>.diff how the same files of another
site differ from them. Together that is every line of every file.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from helpers.cluster.doctor.probes import Probe
from helpers.config import entries, layers, sites
from helpers.lib import durations
from helpers.rendering import render

GOLDEN = Path(__file__).parent / "golden"
REFERENCE = "local"
BASES = {
    path.stem
    for path in layers.SITE_DIR.glob("*.yaml")
    if path.stem in {yaml.safe_load(other.read_text()).get("extends") for other in layers.SITE_DIR.glob("*.yaml")}
    and not yaml.safe_load(path.read_text()).get("hostname_pattern")
} - {REFERENCE}
SITES = [name for name in sites.site_names() if name not in BASES]
VARIABLES = {
    "HPC_ACCOUNT": "acct",
    "HPC_WORK": "/site/hpc_work",
    "HPC_DSS": "/dss/user",
    "HPCWORK": "/hpcwork/user",
} | {name: f"/site/{name.lower()}" for name in ("SCRATCH", "WORK", "MEMBERWORK", "HPC_APPTAINER")}

PLACES = {"runs": "/runs", "data": "/some data"}
PROBES = (
    Probe("cpu", peers=("peer",), options=("--nodelist=n1",), images=("aide",), nonce="feed", folders=PLACES),
    Probe("gpu", "gpu", 1, nonce="feed", folders=PLACES, proxy="http://proxy:3128"),
)


@pytest.fixture(autouse=True)
def site_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that site files name, with values that are the same on every machine."""
    for name, value in (
        VARIABLES | {"HOME": "/home/user", "USER": "user", "MODEL_NAME": "m", "MODEL_BASE_URL": "http://m/v1"}
    ).items():
        monkeypatch.setenv(name, value)
    for name in ("core", "aide", "experiment", "mini-swe"):
        monkeypatch.setenv(f"HAB_VENV_{name.upper().replace('-', '_')}", f"/checkout/.venv-{name}")
    for name in ("TMPDIR", "MLEBENCH_SOURCE"):
        monkeypatch.delenv(name, raising=False)


@functools.cache
def rendered(site: str) -> dict[str, str]:
    """Every file of a site, with this checkout's path made neutral."""
    resolved = sites.load_site(site)
    models = list(entries.models(resolved).values())
    files = render.site_files(resolved, models, list(entries.agents().values()))
    folder = render.Workflow("/runs/doctor")
    files |= {f"slurm_doctor_{probe.name}.sh": render.doctor_script(resolved, folder, probe) for probe in PROBES}
    return {name: text.replace(str(sites.ROOT), "/checkout") for name, text in sorted(files.items())}


def difference(site: str) -> str:
    """How a site's files differ from the reference site's, as one unified diff without context."""
    reference, own = rendered(REFERENCE), rendered(site)
    assert reference.keys() == own.keys()
    lines: list[str] = []
    for name, text in own.items():
        lines += difflib.unified_diff(
            reference[name].splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"local/{name}",
            f"{site}/{name}",
            n=0,
        )
    return "".join(lines)


def check(path: Path, text: str) -> None:
    if os.environ.get("HAB_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.is_file(), f"{path.name} is missing: run `make golden` and look at the diff"
    assert path.read_text() == text, f"{path.name} differs: look at the change, and `make golden` if it is meant"


def test_reference_site_is_complete() -> None:
    files = rendered(REFERENCE)
    for name, text in files.items():
        check(GOLDEN / REFERENCE / name, text)
    assert {path.name for path in (GOLDEN / REFERENCE).iterdir()} == set(files), (
        "a golden file has no template any more"
    )


@pytest.mark.parametrize("site", [name for name in SITES if name != REFERENCE])
def test_site_differs_as_it_should(site: str) -> None:
    check(GOLDEN / f"{site}.diff", difference(site))


@pytest.mark.parametrize("site", SITES)
def test_rendered_files_are_whole(site: str, tmp_path: Path) -> None:
    """No braces of a template are left, and bash can read every script."""
    scripts = []
    for name, text in rendered(site).items():
        if name.endswith(".sh"):
            (tmp_path / name).write_text(text)
            scripts.append(name)
        else:
            assert "{{" not in text and "{%" not in text, f"{name}: template braces are left"
    for name in scripts:
        done = subprocess.run(["bash", "-n", name], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    done = subprocess.run(["shfmt", "-i", "2", "-ci", "-d", *scripts], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def unlike(texts: dict[str, str]) -> dict[str, str]:
    """The texts with a line that no text before them has, but for its words and numbers: what quotes and operators do stays the same."""
    seen: set[str] = set()
    kept = {}
    for name, text in texts.items():
        shapes = {re.sub(r"[\w/.,:=@%+-]+", "x", line) for line in text.splitlines() if not line.startswith("#")}
        if not shapes <= seen:
            kept[name] = text
            seen |= shapes
    return kept


def all_scripts() -> dict[str, str]:
    """The scripts of all sites; the sources stand where the scripts look for them."""
    return {
        f"{site}_{name}": text.replace("/checkout", str(sites.ROOT))
        for site in SITES
        for name, text in rendered(site).items()
        if name.endswith(".sh")
    }


def check_by_shellcheck(folder: Path, texts: dict[str, str], option: str) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)
    command = ["shellcheck", "--severity=warning", option, *(str(folder / name) for name in texts)]
    done = subprocess.run(command, cwd=sites.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_rendered_scripts_are_clean(tmp_path: Path) -> None:
    """shellcheck on one script of each shape, of all sites, without the libraries: what only they define is excused here."""
    chosen = unlike(all_scripts())
    assert len(chosen) > 10
    check_by_shellcheck(tmp_path, chosen, "--exclude=SC1091,SC2034,SC2154")


@pytest.mark.slow
def test_rendered_scripts_are_clean_with_their_libraries(tmp_path: Path) -> None:
    """Following the libraries takes seconds a script: one of each template, with containers."""
    texts = all_scripts()
    followed = {name.split("_")[2]: name for name in reversed(texts) if name.startswith("frontier_")}.values()
    check_by_shellcheck(tmp_path, {name: texts[name] for name in followed}, "--external-sources")


@pytest.mark.parametrize("site", SITES)
def test_servers_outlast_agents(site: str) -> None:
    """With a site's own limits, no model's loading time may push an agent's job past the end of its servers."""
    resolved = sites.load_site(site)
    models = [model for model in entries.models(resolved).values() if model.engine == "vllm"]
    for limit in (resolved.jobs.model_server.time, resolved.jobs.grading_server.time):
        assert render.agent_seconds(resolved.jobs.agent.time_limit, models) <= durations.seconds(limit)


def test_every_job_has_directives_first_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    for name, text in rendered.__wrapped__("della").items():  # with this variable
        if not name.endswith(".sh"):
            continue
        lines = text.splitlines()
        last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
        first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
        assert last < first_command, f"{name}: sbatch ignores a directive that stands behind a command"
        assert "sk-secret" not in text
