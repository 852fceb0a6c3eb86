"""tb_meta.json and overrides.json: what may stand in them, and everything that is wrong with one, at once.

The keys are those of OneShot (synth-laboratories/OneShot, guides/overrides and run_codex_box.sh). Its tb_meta.json has more keys than
are used here: they are told of, and left out. An unknown key of overrides is an error: what it was to change would stay as it is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from helpers.config import variables
from helpers.config.layers import sentence
from helpers.config.schema import NAME, Strict
from helpers.lib import private, strict_json
from helpers.lib.errors import ConfigError
from helpers.repositories import paths

META, OVERRIDES = "tb_meta.json", "overrides.json"
# what an agent is told, as OneShot lays it beside the repository
INSTRUCTIONS = "LM_INSTRUCTIONS.md"
JUDGING = ("evaluation", "rubrics", "test_scripts")  # the keys of overrides that no agent sees
NO_HISTORY = (".git", ".git/")  # OneShot's guide has them removed; they are gone anyway
PROTOCOLS = ("https", "http", "ssh", "git", "file")


class Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


def _path(path: str) -> str:
    if unfit := paths.unfit(path):
        raise ValueError(unfit)
    return path


def _pattern(pattern: str) -> str:
    if pattern not in NO_HISTORY and (unfit := paths.unfit_pattern(pattern)):
        raise ValueError(unfit)
    return pattern


def _folder(path: Any) -> Any:
    path = path.rstrip("/") if isinstance(path, str) and path.strip("/") else path
    return None if path in ("", ".") else path


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a character (a lone surrogate), which no text file can hold") from None
    return text


def _url(url: str) -> str:
    scheme = url.partition("://")[0] if "://" in url else ""
    if paths.CONTROL.search(url) or url.startswith("-"):
        raise ValueError("is neither a URL nor a path")
    if private.IN_URL.search(url):
        raise ValueError(
            "holds a password, which agents could read: clone it with your own git, and give the clone's path"
        )
    if scheme and scheme not in PROTOCOLS or "::" in url:
        raise ValueError(f"must be a path, or a URL of {', '.join(PROTOCOLS)}")
    return url


def _branch(branch: str) -> str:
    # git's check-ref-format, as far as it matters for a name that is asked of a server
    if (
        re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//", branch)
        or branch.startswith(("-", "/"))
        or branch.endswith("/")
    ):
        raise ValueError("is no name of a branch")
    return branch


def _commit(commit: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{7,64}", commit):
        raise ValueError("must be a commit's number, 7 to 64 hexadecimal digits: a name means another commit tomorrow")
    return commit.lower()


def _number(value: Any) -> Any:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


RepoPath = Annotated[str, AfterValidator(_path)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Text = Annotated[str, AfterValidator(_text)]
Said = Annotated[str, Field(min_length=1), AfterValidator(_text)]
Url = Annotated[str, Field(min_length=1), AfterValidator(_url)]
Branch = Annotated[str, Field(min_length=1), AfterValidator(_branch)]
Commit = Annotated[str, AfterValidator(_commit)]
Variables = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Annotated[Text, BeforeValidator(_number)]]


class Rubric(Lenient):
    id: Said
    criterion: Text = ""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0


class TestScript(Lenient):
    """A script that passes or fails. content: None where it lies in evaluation/ under its path."""

    __test__ = False  # pytest would take it for one of its own

    path: RepoPath
    rubric_id: Said
    content: Text | None = None


class Evaluation(Lenient):
    rubrics: list[Rubric] = []
    test_scripts: list[TestScript] = []


class Repo(Lenient):
    """Where a task's repository comes from. Commits are numbers: a branch is another tomorrow."""

    git_url: Url
    branch: Branch | None = None
    start_commit_sha: Commit | None = None
    end_commit_sha: str | None = None
    subdir: Annotated[RepoPath | None, BeforeValidator(_folder)] = None
    sparse_checkout: list[Pattern] | None = None


class Metadata(Lenient):
    title: Text = ""
    tags: list[Text] = []


class Instructions(Lenient):
    instructions: Said


class Meta(Lenient):
    """A repository task as it is written. image: the name of one in paths.containers (a key of ours)."""

    task_id: Said
    metadata: Metadata = Metadata()
    repo: Repo
    lm: Instructions
    evaluation: Evaluation
    image: Annotated[str, Field(pattern=NAME)] | None = None


class StrictRubric(Rubric, Strict):
    pass


class StrictTestScript(TestScript, Strict):
    pass


class StrictEvaluation(Strict):
    rubrics: list[StrictRubric]
    test_scripts: list[StrictTestScript]


class RepoOverride(Repo, Strict):
    git_url: Url | None = None  # type: ignore[assignment]


class InjectedFile(Strict):
    path: RepoPath
    content: Text


class Overrides(Strict):
    """What a run changes of a task."""

    remove_repo_paths: list[Pattern] = []
    inject_files: list[InjectedFile] = []
    overlay_files: dict[RepoPath, Text] = {}
    overlay_repo_files: dict[RepoPath, Text] = {}
    repo: RepoOverride | None = None
    prompt: Said | None = None
    lm_instructions: Said | None = None
    environment_variables: Variables = {}
    evaluation: StrictEvaluation | None = None
    rubrics: list[StrictRubric] | None = None
    test_scripts: list[StrictTestScript] | None = None

    @field_validator("environment_variables")
    @classmethod
    def _free(cls, given: dict[str, str]) -> dict[str, str]:
        if unfit := list(filter(None, (variables.unfit(name, value) for name, value in given.items()))):
            raise ValueError("; ".join(unfit))
        return given

    def clashes(self) -> list[str]:
        """Keys that say the same thing twice, as ends of sentences."""
        found = []
        if self.prompt is not None and self.lm_instructions is not None:
            found.append("prompt, lm_instructions: are two names of one thing: give one of them.")
        if self.evaluation is not None and (self.rubrics is not None or self.test_scripts is not None):
            found.append("evaluation: holds rubrics and test_scripts: give it, or those two.")
        names = [file.path for file in self.inject_files]
        found += [
            f"inject_files: {name!r} is given twice." for name in sorted({one for one in names if names.count(one) > 1})
        ]
        return found

    @property
    def instructions(self) -> str | None:
        """What the agent is told instead of the task's own instructions."""
        return self.prompt or self.lm_instructions or self.overlay_files.get(INSTRUCTIONS)

    def given(self) -> dict[str, Any]:
        """What differs from no overrides at all, as JSON holds it."""
        data = self.model_dump(
            mode="json", exclude_unset=True
        )  # a subdir of null is one: the task's own doesn't hold then
        return {key: value for key, value in data.items() if value not in (None, [], {})}


def meta_of(data: dict[str, Any], source: str) -> tuple[Meta, list[str]]:
    """A tb_meta.json, and notes on it. Raises ConfigError with all that is wrong with it."""
    meta = _validated(Meta, data, source)
    if unknown := sorted(_unknown(data, Meta)):
        return meta, [f"{source}: not used here: {', '.join(unknown)}"]
    return meta, []


def overrides_of(data: dict[str, Any], source: str = OVERRIDES) -> Overrides:
    """Overrides. Raises ConfigError with all that is wrong with them."""
    found = _validated(Overrides, data, source)
    if clashes := found.clashes():
        raise ConfigError([f"{source}: {clash}" for clash in clashes])
    return found


def read_overrides(path: Path, source: str | None = None) -> Overrides:
    """The overrides in a file. Raises ConfigError with all that is wrong with them."""
    source = source or str(path)
    return overrides_of(strict_json.read(path, source), source)


def problems_of(evaluation: Evaluation, files: set[str], source: str) -> list[str]:
    """What doesn't fit together. files: those of evaluation/, which a test script without content must be among."""
    ids = [rubric.id for rubric in evaluation.rubrics]
    found = [f"rubrics: the id {one!r} is given twice." for one in sorted({one for one in ids if ids.count(one) > 1})]
    if not any(rubric.weight > 0 for rubric in evaluation.rubrics):
        found.append("rubrics: none has a weight above 0: there would be no score.")
    names: list[str] = []
    for number, script in enumerate(evaluation.test_scripts):
        where = f"test_scripts[{number}] ({script.path})"
        if script.rubric_id not in ids:
            found.append(f"{where}: there is no rubric {script.rubric_id!r}; there are: {', '.join(ids) or 'none'}.")
        if script.content is None and script.path not in files:
            found.append(f"{where}: has no content, and there is no evaluation/{script.path}.")
        if script.content is not None and script.path in files:
            found.append(f"{where}: has a content, and there is an evaluation/{script.path}: delete one of them.")
        others = [*names, *(files - {script.path})]
        if script.path in names or any(_in_the_way(script.path, other) for other in others):
            found.append(f"{where}: another file, or a folder of one, has that path.")
        names.append(script.path)
    return [f"{source}: {one}" for one in found]


def _in_the_way(path: str, other: str) -> bool:
    return path.startswith(f"{other}/") or other.startswith(f"{path}/")


def _validated(kind: type[Any], data: dict[str, Any], source: str) -> Any:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError(list(dict.fromkeys(_told(item, source, kind) for item in error.errors()))) from error


def _told(item: Any, source: str, kind: type[BaseModel]) -> str:
    location: list[str] = []
    for part in item["loc"]:
        if isinstance(part, int) and location:
            location[-1] += f"[{part}]"
        elif part != "[key]":  # pydantic's word for a key of a mapping that is unfit itself
            location.append(str(part))
    return sentence(source, tuple(location), item | {"input": _short(private.masked(item["input"]))}, kind)


def _short(value: Any) -> Any:
    """A value as far as a sentence has room for it."""
    if isinstance(value, str):
        return value if len(value) <= 100 else f"{value[:100]}…"
    return value if len(repr(value)) <= 100 else type(value).__name__


def _unknown(data: Any, kind: Any, where: str = "") -> set[str]:
    """The keys that a lenient model left out, each as a.b[]."""
    found: set[str] = set()
    for key, value in data.items() if isinstance(data, dict) else ():
        field = kind.model_fields.get(key)
        if field is None:
            found.add(f"{where}{key}")
            continue
        inner = next(
            (
                one
                for one in (field.annotation, *getattr(field.annotation, "__args__", ()))
                if hasattr(one, "model_fields")
            ),
            None,
        )
        if inner is not None:
            many = value if isinstance(value, list) else [value]
            mark = f"{where}{key}[]." if isinstance(value, list) else f"{where}{key}."
            found |= {name for one in many for name in _unknown(one, inner, mark)}
    return found
