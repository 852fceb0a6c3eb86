"""tb_meta.json and overrides.json: all that is wrong is told at once, with the file, the key, the value."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from upstream import make_task, meta

from helpers.lib.errors import ConfigError
from helpers.repositories import schema, source


def wrong(given: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as told:
        schema.overrides_of(given)
    return told.value.problems


def test_everything_wrong_is_told_at_once() -> None:
    problems = wrong(
        {
            "remove_repo_paths": ["fine", "../up"],
            "inject_files": [{"path": "/etc/passwd", "content": "x", "mode": 1}],
            "environment_variables": {"PATH": "/x", "SEED": "1"},
            "repo": {"subdirectory": "x", "git_url": "ext::sh -c id"},
            "evaluations": {},
        }
    )
    assert [line.split(": ")[1] for line in problems] == [
        "remove_repo_paths[1]",
        "inject_files[0].path",
        "inject_files[0].mode",
        "repo.git_url",
        "repo.subdirectory",
        "environment_variables",
        "evaluations",
    ]
    text = "\n".join(problems)
    assert all(line.startswith("overrides.json: ") for line in problems)
    assert "'../up'" in text and "Did you mean subdir?" in text and "Did you mean evaluation?" in text
    assert "PATH carries what jobs tell agents" in text and "SEED carries" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prompt": "a", "lm_instructions": "b"}, "two names of one thing"),
        ({"evaluation": {"rubrics": [], "test_scripts": []}, "rubrics": []}, "give it, or those two"),
        ({"inject_files": [{"path": "a", "content": ""}, {"path": "a", "content": ""}]}, "'a' is given twice"),
        ({"overlay_files": {"../x": ""}}, "holds `..`"),
        ({"overlay_repo_files": {".git/config": ""}}, "holds `.git`"),
        ({"overlay_files": {"x": "\ud800"}}, "half a character"),
        ({"overlay_files": ["x"]}, "valid dictionary"),
        ({"remove_repo_paths": "x"}, "valid list"),
        ({"repo": {"subdir": "../x"}}, "holds `..`"),
        ({"repo": {"sparse_checkout": ["/x"]}}, "is absolute"),
        ({"repo": {"start_commit_sha": "main"}}, "must be a commit's number"),
        ({"repo": {"branch": "--upload-pack=x"}}, "is no name of a branch"),
        ({"repo": {"git_url": "--upload-pack=x"}}, "neither a URL nor a path"),
        ({"repo": {"git_url": "https://me:secret@host/x"}}, "holds a password"),
        ({"environment_variables": {"MY_API_KEY": "abcdefgh"}}, "looks like a secret"),
        ({"environment_variables": {"A B": "x"}}, "should match pattern"),
        ({"environment_variables": {"A": True}}, "valid string"),
        ({"prompt": ""}, "at least 1 character"),
        ({"rubrics": [{"id": "a", "weight": -1}]}, "rubrics[0].weight"),
        ({"rubrics": [{"id": "a", "wight": 1}]}, "Did you mean weight?"),
        ({"test_scripts": [{"path": "../a", "rubric_id": "x", "content": ""}]}, "test_scripts[0].path"),
        ({"evaluation": {"rubrics": [{"id": "a"}]}}, "evaluation.test_scripts: must be set"),
    ],
)
def test_what_overrides_may_not_be(given: dict[str, Any], said: str) -> None:
    assert said in "\n".join(wrong(given))


def test_a_secret_is_not_repeated() -> None:
    text = "\n".join(
        wrong(
            {
                "environment_variables": {"MY_TOKEN": "tell-nobody-9"},
                "repo": {"git_url": "https://me:tell-nobody-9@host/x"},
            }
        )
    )
    assert "tell-nobody-9" not in text


def test_the_guides_own_example_passes() -> None:
    """Of OneShot's guides/overrides, but for its repository."""
    found = schema.overrides_of(
        {
            "remove_repo_paths": ["node_modules", ".git", "*.log", "temp/"],
            "inject_files": [{"path": "AGENTS.md", "content": "# Guide"}],
            "repo": {"subdir": "packages/core", "sparse_checkout": ["src/", "package.json", "README.md"]},
            "lm_instructions": "Custom",
            "environment_variables": {"DEBUG": "true", "CUSTOM_CONFIG": "production", "LEVEL": 3},
        }
    )
    assert found.environment_variables["LEVEL"] == "3" and found.instructions == "Custom"


def test_empty_overrides_are_none() -> None:
    assert schema.overrides_of({"remove_repo_paths": [], "repo": None, "prompt": None}).given() == {}
    assert schema.overrides_of({"repo": {"subdir": ""}}).given() == {"repo": {"subdir": None}}


@pytest.mark.parametrize("text", ["{", "[]", '{"prompt": "a", "prompt": "b"}', '{"a": NaN}', "\xff"])
def test_what_is_no_json_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "o.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="o.json"):
        schema.read_overrides(tmp_path / "o.json")
    with pytest.raises(ConfigError, match="can't be read"):
        schema.read_overrides(tmp_path / "none.json")


def test_unknown_keys_of_a_task_are_noted_and_left_out(tmp_path: Path) -> None:
    data = meta("https://example.org/x", "a" * 40, remote="origin")
    data["start_commit"] = "x"
    data["evaluation"]["rubrics"][0]["colour"] = "red"
    found = source.load(make_task(tmp_path / "toy", data), "toy")
    assert [note.split(": ", 1)[1] for note in found.notes] == [
        "not used here: evaluation.rubrics[].colour, repo.remote, start_commit"
    ]
    assert found.meta.repo.git_url == "https://example.org/x" and found.title == "A toy"


def test_all_that_is_wrong_with_a_task_is_told_at_once(tmp_path: Path) -> None:
    data = meta("https://example.org/x", "a" * 40)
    data["evaluation"] = {
        "rubrics": [{"id": "a", "weight": 0}, {"id": "a", "weight": 0}],
        "test_scripts": [
            {"path": "t.sh", "rubric_id": "b", "content": ""},
            {"path": "missing.sh", "rubric_id": "a"},
            {"path": "t.sh/x", "rubric_id": "a", "content": ""},
            {"path": "both.sh", "rubric_id": "a", "content": ""},
        ],
    }
    folder = make_task(tmp_path / "toy", data, {"colour": 1}, evaluation__both_dot_sh="x")
    (folder / "overlay_files").mkdir()
    (folder / "overlay_files" / "link").symlink_to("../../tb_meta.json")
    with pytest.raises(ConfigError) as told:
        source.load(folder, "toy")
    text = "\n".join(told.value.problems)
    for said in (
        "overrides.json: colour: unknown key",
        "overlay_files/link: is a link that leads out of its folder",
        "the id 'a' is given twice",
        "none has a weight above 0",
        "test_scripts[0] (t.sh): there is no rubric 'b'; there are: a, a",
        "test_scripts[1] (missing.sh): has no content, and there is no evaluation/missing.sh",
        "test_scripts[2] (t.sh/x): another file, or a folder of one, has that path",
        "test_scripts[3] (both.sh): has a content, and there is an evaluation/both.sh",
    ):
        assert said in text, said


def test_a_folder_whose_name_is_no_id_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can be no id"):
        source.load(make_task(tmp_path / "a b", meta("https://example.org/x", "a" * 40)), "a b")


def test_missing_keys_are_told(tmp_path: Path) -> None:
    data: dict[str, Any] = copy.deepcopy(meta("https://example.org/x", "HEAD"))
    del data["lm"], data["evaluation"]
    folder = make_task(tmp_path / "toy", data)
    with pytest.raises(ConfigError) as told:
        source.load(folder, "toy")
    text = "\n".join(told.value.problems)
    assert "lm: must be set" in text and "evaluation: must be set" in text
    assert "repo.start_commit_sha: must be a commit's number" in text and "'HEAD'" in text
    assert json.loads((folder / "tb_meta.json").read_text()) == data
