"""Secrets by the side door: refused in files, handed over in one of the user's own, masked wherever they would be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.config import entries, layers, schema, sites
from helpers.lib import private
from helpers.lib.errors import ConfigError
from helpers.rendering import render, sealing

ROOT = Path(__file__).resolve().parents[2]
TOKEN, PASSWORD = "abcd1234efgh", "hush-hush"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("WANDB_API_KEY", TOKEN, True),
        ("my_token", TOKEN, True),
        ("DB-PASSWORD", "x", True),
        ("X", f"http://me:{PASSWORD}@proxy:3128", True),
        ("X", "sk-proj-1234567890abcdefghij", True),
        ("X", "hf_" + "aB3" * 12, True),
        ("setup", "export HF_TOKEN=abcdefgh && true", True),
        ("proxy", "http://proxy:3128", False),
        ("proxy", "http://me@proxy:3128", False),
        ("proxy", "http://me:@proxy:3128", False),
        ("TOKENIZERS_PARALLELISM", "false", False),
        ("USE_TOKEN", "true", False),
        ("SSL_KEY", "/etc/ssl/key.pem", False),
        ("models", "/data/hf_models_of_everyone_in_the_group", False),
        ("folder", "/sk-learn-of-everyone-in-the-group", False),
        ("setup", "export HF_TOKEN=$(cat ~/.token)", False),
        ("setup", "export TOKEN=$MINE", False),
        ("api_key_variable", "OPENAI_API_KEY", False),
    ],
)
def test_what_looks_like_a_secret(name: str, value: str, secret: bool) -> None:
    assert private.is_secret(name, value) is secret
    assert (
        private.masked({name: [value] if name == "setup" else value}) != {name: [value] if name == "setup" else value}
    ) is secret


def test_a_command_line_is_masked_too() -> None:
    said = [
        "run_workflow.sh",
        "--set",
        f"environment.variables.MY_TOKEN={TOKEN}",
        f"environment.proxy=http://u:{PASSWORD}@p:1",
    ]
    assert private.masked(said) == [
        *said[:2],
        "environment.variables.MY_TOKEN=***",
        "environment.proxy=http://u:***@p:1",
    ]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (layers, sites):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    for name in ("A_TOKEN", "PROXY_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def site_of(folder: Path, text: str, *overrides: str) -> schema.Site:
    path = folder / "here.yaml"
    path.write_text(
        f"scheduler: {{kind: local}}\npaths: {{address_dir: {folder}/addresses, runs: {folder}/runs}}\n{text}"
    )
    return sites.load_site(str(path), list(overrides))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"environment: {{variables: {{WANDB_API_KEY: {TOKEN}}}}}", "environment.variables.WANDB_API_KEY"),
        (f"environment: {{proxy: 'http://me:{PASSWORD}@proxy:1'}}", "environment.proxy"),
        (f"environment: {{setup: ['export X_TOKEN={TOKEN}']}}", "environment.setup"),
        (f"container: {{pip_index_url: 'https://me:{PASSWORD}@index/simple'}}", "container.pip_index_url"),
    ],
)
def test_a_secret_in_a_site_file_is_refused_with_a_hint(checkout: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        site_of(checkout, text)
    [said] = error.value.problems
    assert f"here.yaml: {key}: looks like a secret" in said and f"NAME=… into {checkout}/.env" in said
    assert TOKEN not in said and PASSWORD not in said


REFERENCES = """environment:
  variables: {A_TOKEN: "${A_TOKEN}", PLAIN: "it's"}
  proxy: http://me:${PROXY_PASSWORD}@proxy:1
"""


def with_secrets(checkout: Path) -> schema.Site:
    (checkout / ".env").write_text(f"A_TOKEN=old\nexport A_TOKEN='{TOKEN}'\nPROXY_PASSWORD={PASSWORD}\r\n")
    return site_of(checkout, REFERENCES)


def test_references_are_resolved_from_the_environment_else_from_the_file_of_keys(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_secrets(checkout).environment
    assert here.variables["A_TOKEN"] == TOKEN and here.proxy == f"http://me:{PASSWORD}@proxy:1"
    monkeypatch.setenv("A_TOKEN", "another")
    assert site_of(checkout, REFERENCES).environment.variables["A_TOKEN"] == "another"
    (checkout / ".env").unlink()
    with pytest.raises(ConfigError, match="PROXY_PASSWORD} is not set"):
        site_of(checkout, REFERENCES)


@pytest.mark.parametrize("alone", [True, False])
def test_jobs_get_secrets_from_a_file_of_the_users_own_and_scripts_hold_none(checkout: Path, alone: bool) -> None:
    site = with_secrets(checkout)
    group = checkout / "group"
    (group / "jobs").mkdir(parents=True)
    if not alone:
        sealing.seal(group)
    workflow = None if alone else render.Workflow(str(group))
    os.umask(0o022)
    for _ in range(2):
        render.write(group / "jobs", {"job.sh": render.grading_script(site, workflow)}, site, workflow)
    file = checkout / "addresses" / "environment.here" if alone else group / "jobs" / "environment"
    assert file.stat().st_mode & 0o777 == 0o600
    script = (group / "jobs" / "job.sh").read_text()
    assert TOKEN not in script and PASSWORD not in script
    head = (
        script[: script.index("\nSCHEDULER=")] + '\nprintf "%s\\n" "$A_TOKEN" "$PLAIN" "$http_proxy" "$https_proxy"\n'
    )
    run = ["bash", "-c", head, "job"]
    proxy = f"http://me:{PASSWORD}@proxy:1"
    assert subprocess.check_output(run, text=True).split("\n")[:4] == [TOKEN, "it's", proxy, proxy]
    file.unlink()
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 3 and f"can't read {file} on" in done.stderr


def test_without_secrets_there_is_no_file(checkout: Path) -> None:
    site = site_of(checkout, "environment: {variables: {PLAIN: x}, proxy: 'http://proxy:1'}")
    text = render.grading_script(site)
    render.write(checkout, {"job.sh": text}, site)
    assert not (checkout / "addresses").exists() and "\nexport PLAIN=x\nexport http_proxy=http://proxy:1\n" in text


def test_show_masks(tmp_path: Path) -> None:
    (tmp_path / "here.yaml").write_text(REFERENCES)
    command = [sys.executable, "-m", "helpers", "site", "show", str(tmp_path / "here.yaml")]
    env = {**os.environ, "A_TOKEN": TOKEN, "PROXY_PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT)}
    said = subprocess.check_output(command, text=True, env=env, cwd=tmp_path)
    assert "A_TOKEN: '***'" in said and "proxy: http://me:***@proxy:1" in said
    assert TOKEN not in said and PASSWORD not in said


def test_a_wrong_value_is_told_without_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "here.yaml").write_text("environment: {variables: {A_TOKEN: [1234567]}}")
    with pytest.raises(ConfigError) as error:
        sites.load_site(str(tmp_path / "here.yaml"))
    assert "1234567" not in str(error.value) and "environment.variables.A_TOKEN" in str(error.value)


def test_agents_and_models_hold_no_secrets_either(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (entries, layers, sites):
        monkeypatch.setattr(module, "SITE_DIR", checkout)
    (checkout / "agents.yaml").write_text(f"mine: {{command: 'true', image: aide, variables: {{MY_TOKEN: {TOKEN}}}}}")
    with pytest.raises(ConfigError, match="agents.yaml: mine.variables.MY_TOKEN: looks like a secret"):
        entries.agents()
    (checkout / "models.yaml").write_text(
        f"mine: {{engine: external, served_name: m, base_url: 'http://me:{PASSWORD}@host/v1'}}"
    )
    with pytest.raises(ConfigError, match="models.yaml: mine.base_url: looks like a secret"):
        entries.models()
    monkeypatch.setenv("MODEL_BASE_URL", f"http://me:{PASSWORD}@host/v1")
    (checkout / "models.yaml").write_text("mine: {engine: external, served_name: m, base_url: '${MODEL_BASE_URL}'}")
    with pytest.raises(ConfigError, match="model 'mine': base_url holds a password") as error:
        entries.model("mine")
    assert PASSWORD not in str(error.value)
