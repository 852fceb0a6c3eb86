"""What a folder of jobs holds of the checkout, and how it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.config import entries, sites
from helpers.config.sites import load_site
from helpers.rendering import render, sealing
from helpers.runs import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "checkout"
    for part in sealing.SEALED:
        path = root / part
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_text("{}\n")
        else:
            (path / "__pycache__").mkdir(parents=True)
            (path / "__pycache__" / "old.pyc").write_text("")
            (path / "one").write_text(f"{part}\n")
    (root / "templates/agents/linked").symlink_to("one")
    monkeypatch.setattr(sealing, "ROOT", root)
    return root


def test_a_folder_is_sealed(checkout: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    told = sealing.seal(run)
    assert told["git_commit"] is None and told["code"]["path"] == "jobs/code"
    code = run / sealing.CODE
    assert (code / "scripts_hpc/lib/one").read_text() == "scripts_hpc/lib\n"
    assert (code / "site-config/default.yaml").is_file() and not list(code.rglob("*.pyc"))
    (checkout / "templates/agents/one").write_text("changed")
    assert (code / "templates/agents/linked").read_text() == "templates/agents\n"
    # the same code is the same number, whatever else lies in the checkout
    (checkout / "one more").write_text("")
    (checkout / "templates/agents/one").write_text("templates/agents\n")
    assert sealing.seal(tmp_path / "again")["code"] == told["code"]
    (checkout / "helpers/one").write_text("changed")
    assert sealing.seal(tmp_path / "changed")["code"]["sha256"] != told["code"]["sha256"]


def test_a_persons_own_agent_is_sealed_too(checkout: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "start.sh").write_text("echo\n")
    told = sealing.seal(tmp_path / "run", [own])
    place = sealing.place_of(own)
    assert place and (tmp_path / "run" / sealing.CODE / place / "start.sh").read_text() == "echo\n"
    assert sealing.digest_of(tmp_path / "run" / sealing.CODE) == told["code"]["sha256"]
    assert told["code"]["sha256"] != sealing.seal(tmp_path / "other")["code"]["sha256"]
    inside = checkout / sealing.AGENTS / "one"
    assert sealing.place_of(inside) is None
    namesake = tmp_path / "other" / "mine"
    namesake.mkdir(parents=True)
    assert sealing.place_of(namesake) not in (None, place)


def test_scripts_of_a_folder_use_its_code_and_those_by_themselves_the_checkout() -> None:
    site = load_site("local")
    run = render.Workflow("/runs/mine")
    agent = entries.agent("baseline")
    scripts = [
        render.grading_script(site, run),
        render.model_script(site, entries.model("replay"), run),
        render.agent_script(site, agent, run),
        render.notebook_script(site, workflow=run),
        render.prepare_script(site, run),
    ]
    for script in scripts:
        assert "\nROOT=/runs/mine/jobs/code\n" in script and f"\nCHECKOUT={sites.ROOT}\n" in script
        left = [line for line in script.splitlines() if str(sites.ROOT) in line]
        assert {line.partition("=")[0] for line in left} <= {"CHECKOUT", "VENV", "DATA", "IMAGES", "NOTEBOOKS", "RUNS"}
    assert "\nAGENT_FILES=/runs/mine/jobs/code/templates/agents/baseline\n" in scripts[2]
    alone = render.agent_script(site, agent)
    assert f"\nROOT={sites.ROOT}\n" in alone and "\ncommon::tell_commit &\n" in alone


def test_images_and_variables_belong_to_the_config_hash() -> None:
    site = load_site("della", ["scheduler.account=mine"]).model_dump(mode="json")
    chosen = {"site": site, "images": {"agent": "0a"}}
    changed = [
        {**chosen, "images": {"agent": "0b"}},
        {**chosen, "site": load_site("della", ["environment.variables={A: b}"]).model_dump(mode="json")},
    ]
    assert len({provenance.config_hash(one) for one in [chosen, *changed]}) == 3
