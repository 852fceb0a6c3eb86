"""What is derived from the files of a run and its workflow: its submission graded again here, checksums, counts. For derive.py."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from helpers.lib import bounded, disk, values
from helpers.lib.errors import Infrastructure
from helpers.lib.private import MASK
from helpers.lib.values import seconds_of, section
from helpers.rendering import sealing
from helpers.repositories import evaluation, score, source
from helpers.runs import load, metadata

REPOSITORY = ("artifacts/diff.patch", "kept_diff.patch")  # what is graded of a task that is a repository
EVALUATION = "evaluation_results.json"
META, REPORT, WORKFLOW = "run_metadata.json", "grading_report.json", "../workflow.json"
SAME, FITS, DIFFERS, UNKNOWN = "same", "fits", "differs", "not derived"
ASKED = b"/v1/chat/completions"  # in a line of vLLM's log, and of the replay server's
LARGE = 2**30  # a file that takes seconds to hash: said first
LOG_BYTES, LINE_BYTES = 2**30, 2**20  # of a model server's log
JOURNAL_BYTES = 256 * 2**20
Found = tuple[str, str, str, Any]  # source, verdict, how, value


@dataclass(frozen=True)
class Again:
    """A report on the submission that a run was graded by, made anew. how: by what."""

    report: dict[str, Any]
    how: str


class Files:
    """folder: a run's; run: the same, of helpers/export_results.py."""

    def __init__(self, folder: Path, run: Any):
        self.folder, self.group, self.run = folder, folder.parent, run
        self.workflow, self.config = run.workflow, section(run.workflow, "config")
        self._created = seconds_of(self.workflow.get("created_at")) or 0.0
        self.why_not_again = ""

    # ---- the grade

    @cached_property
    def _submission(self) -> tuple[bytes | None, str]:
        """What was graded, and which file of the run's folder has it; None, and why, where none has."""
        noted = self.run.metadata.get("submission_sha256")
        name = Path(values.text(self.run.report.get("submission_path")) or "").name
        names = [
            "graded_submission.csv" if name == "graded_submission.csv" else metadata.SUBMISSION,
            "kept_submission.csv",
        ]
        names = list(REPOSITORY) if self.is_repository else names
        limit = (values.count(section(self.config, "limits").get("upload_mb")) or 1024) * 2**20
        found = ""
        for name in names:
            try:
                data = disk.read_file(self.folder / name, limit)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                return None, f"{name}: {getattr(error, 'strerror', None) or error}"
            sha256 = hashlib.sha256(data).hexdigest()
            if noted in (None, sha256):
                return data, name
            found = found or f"{META}: submission_sha256 {noted}, but {name} has {sha256}"
        return None, found or "the submission is gone"

    @property
    def tampered(self) -> str | None:
        """That the submission isn't what was graded, where it isn't."""
        return self._submission[1] if self._submission[1].startswith(META) else None

    @cached_property
    def again(self) -> Again | None:
        """The submission graded here; else, the newest grade of a job of results.sh regrade; else None, and why_not_again says why."""
        data, said = self._submission
        if data is None:
            self.why_not_again = said
        elif self.is_repository:
            return self._added_up(said)
        else:
            try:
                return Again(self._graded(data), f"{said}, graded here by the answers in {self._prepared / 'private'}")
            except _CantError as why:
                self.why_not_again = f"can't be graded here: {why}"
        grades, counted = self.run.metadata.get("grades"), self.run.metadata.get("counted_grade")
        for grade in reversed(grades if isinstance(grades, list) else []):
            if counted and isinstance(grade, dict) and grade.get("job") == counted:
                break  # it is the result itself, and those before it are what that was
            name = values.text(grade.get("report") if isinstance(grade, dict) else None) or REPORT
            report = disk.read_json(self.folder / Path(name).name) if name != REPORT else None
            if report:
                return Again(report, f"{name}: by job {grade.get('job')}, at {grade.get('at')}")
        return None

    @property
    def is_repository(self) -> bool:
        """Whether its task is a repository."""
        return self.workflow.get("kind") == source.KIND

    def _added_up(self, diff: str) -> Again | None:
        """The score of a repository's diff from what its scripts came to, which aren't run again."""
        instance = Path(values.text(self.workflow.get("instance")) or "", "private")
        told = disk.read_json(self.folder / EVALUATION) or {}
        try:
            total = score.rubrics(evaluation.read(instance), section(told, "test_results"))[1]
        except (Infrastructure, OSError, KeyError, TypeError) as error:
            self.why_not_again = f"can't be added up here: {error}"
            return None
        how = f"{EVALUATION}: the scripts that passed on {diff}, by the weights in {instance}; they aren't run again"
        return Again({**self.run.report, "total_score": total}, how)

    @property
    def _prepared(self) -> Path:
        data = values.text(section(self.config, "paths").get("data")) or "(no paths.data in workflow.json)"
        return Path(data, str(self.run.task), "prepared")

    def _graded(self, data: bytes) -> dict[str, Any]:
        """Raises _CantError."""
        from helpers.grading import report

        fingerprint, noted = _fingerprint(self._prepared), self.run.data
        if isinstance(fingerprint, str):
            raise _CantError(fingerprint)
        if noted and fingerprint[0] != noted:
            raise _CantError(f"other data lie in {self._prepared} now")
        limits = section(self.config, "limits")
        seconds, megabytes = (values.count(limits.get(f"judgement_{key}")) for key in ("seconds", "mb"))
        try:
            grader = _grader(str(self.run.task), self._prepared.parents[self.run.task.count("/") + 1])
            return bounded.call(
                grader.grade, io.BytesIO(data), seconds=5 * (seconds or 120), memory=(megabytes or 2048) * 2**20
            )
        except report.GradingError as error:
            raise _CantError(" ".join(str(error).split())) from error
        except bounded.Exceeded as error:
            raise _CantError(f"it {error}") from error
        except Exception as error:  # a grader is somebody's code
            raise _CantError(f"its grader failed: {type(error).__name__}: {report.shortened(error, 200)}") from error

    # ---- checksums

    def source(self, column: str) -> str:
        """Where the table has a checksum from."""
        keys = {"image_digest": f"{self.run.where('images')}.agent.sha256", "config_hash": self.run.where(column)}
        other = f"{META}: {column}, else " if column == "data_fingerprint" else ""
        return f"{other}{WORKFLOW}" + ("" if other else f": {keys.get(column, column)}")

    def data_fingerprint(self) -> Found:
        source = self.source("data_fingerprint")
        found = _fingerprint(self._prepared)
        if isinstance(found, str):
            return source, UNKNOWN, found, None
        value, changed = found
        how = f"the files in {self._prepared}"
        if value == self.run.data:
            return source, SAME, how, value
        if changed > self._created or self.run.data is None:
            return source, UNKNOWN, f"{how} were changed since, or none was noted", None
        return source, DIFFERS, how, value

    def image_digest(self) -> Found:
        image = section(section(self.workflow, "images"), "agent")
        source, noted = self.source("image_digest"), image.get("sha256")
        path = Path(str(image.get("path")))
        if noted is None:
            return source, UNKNOWN, "no image, or none whose build noted a checksum", None
        try:
            value, changed = _sha256(path)
        except OSError as error:
            return source, UNKNOWN, f"{path}: {error.strerror}", None
        if value == noted:
            return source, SAME, f"sha256 of {path}", value
        if changed > self._created:
            return source, UNKNOWN, f"{path} was made anew since", None
        return source, DIFFERS, f"sha256 of {path}", value

    def config_hash(self) -> Found:
        from helpers.runs.provenance import config_hash

        source = self.source("config_hash")
        agent, own = section(self.workflow, "agent_config"), self.workflow.get("agent_limits")
        images = section(self.workflow, "images")
        if not agent or not isinstance(own, dict):
            return source, UNKNOWN, "an older record, which doesn't have all that went into it", None
        if MASK in json.dumps([agent, self.workflow.get("model_config"), self.workflow.get("feedback_model_config")]):
            return source, UNKNOWN, "a secret went into it, which no record holds", None
        scripts = sorted((self.group / "jobs").glob("script.*"))
        try:
            chosen = {
                "site": self.config,
                "model": self.workflow.get("model_config"),
                "feedback_model": self.workflow.get("feedback_model_config"),
                "agent": agent | own,
                "script": hashlib.sha256(disk.read_file(scripts[0])).hexdigest() if scripts else None,
                "steps": agent.get("steps"),
                "time_limit": agent.get("time_limit"),
                "images": {role: section(images, role).get("sha256") for role in images},
            }
            if variables := section(self.workflow, "variables"):
                chosen["rollout_variables"] = variables
            if tokens := self.workflow.get("tokens"):
                chosen["tokens"] = tokens
            if instance := values.text(self.workflow.get("instance")):
                chosen["instance"] = Path(instance).name
            value = config_hash(chosen)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return source, UNKNOWN, f"can't be made of what {WORKFLOW} and jobs/ hold: {error}", None
        how = f"sha256 of model, agent, limits and images in {WORKFLOW}"
        return source, SAME if value == self.workflow.get("config_hash") else DIFFERS, how, value

    def git_commit(self) -> Found:
        """The code that ran, jobs/code, beside what the record says of it, and beside the commit."""
        source, noted = self.source("git_commit"), section(self.workflow, "code").get("sha256")
        code, commit = self.group / sealing.CODE, values.text(self.workflow.get("git_commit"))
        try:
            value = sealing.digest_of(code) if code.is_dir() else None
        except OSError as error:
            return source, UNKNOWN, f"{error.filename}: {error.strerror}", None
        if noted is None or value is None:
            return source, UNKNOWN, "there is no copy of the code that ran (jobs/code), or one of another version", None
        if value != noted:
            return (
                source,
                DIFFERS,
                f"{WORKFLOW}: code.sha256 {noted}, but the files in {sealing.CODE} have {value}",
                None,
            )
        if commit is None or self.workflow.get("git_dirty") is True:
            return source, UNKNOWN, f"{sealing.CODE} is as noted, but no commit has it", None
        if (found := sealing.beside_commit(code, commit)) is None:
            return source, UNKNOWN, f"{sealing.CODE} is as noted; this checkout has no commit {commit[:12]}", None
        same, others, new = found
        if others:
            said = f"{sealing.CODE} isn't the commit's, and it isn't called dirty: {', '.join(others)}"
            return source, DIFFERS, said, None
        more = f", and {len(new)} that no commit has: {', '.join(new[:3])}" if new else ""
        return source, FITS if new else SAME, f"{sealing.CODE}: {len(same)} files as in the commit{more}", commit

    # ---- counts

    @cached_property
    def nodes(self) -> int | None:
        """How many nodes the agent's journal has."""
        try:
            if (self.folder / "logs").is_symlink():
                return None
            found = json.loads(disk.decoded(disk.read_file(self.folder / "logs" / "journal.json", JOURNAL_BYTES))[0])
            return len(found["nodes"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def asked(self, servers: dict[str, str]) -> tuple[int | None, str]:
        """How many requests the logs of the run's model servers name, and which logs these are; None without one that does."""
        count, paths = 0, []
        for job in {job for role, job in servers.items() if role != "grading"}:
            for path in sorted((self.group / "logs").glob(f"*-{job}.out")):
                if (found := _lines_with(path)) is None:
                    return None, ""
                count += found
                paths.append(f"../logs/{path.name}")
        return (count or None), ", ".join(paths)

    def value_in_script(self, name: str) -> str | None:
        """A value at the top of the agent's job script, as it was submitted."""
        try:
            script, *_ = sorted((self.group / "jobs").glob("agent*.sh"))
            text = disk.read_file(script).decode("utf-8", "replace")
            found = re.search(rf"^{name}=(.*)$", text, re.MULTILINE)
            return shlex.split(found[1])[0] if found else None
        except (OSError, ValueError, IndexError):
            return None


class _CantError(Exception):
    """Why a submission can't be graded here."""


# what the rollouts of a workflow have in common is read once


@lru_cache(maxsize=2)
def _grader(task: str, data: Path) -> Any:
    from helpers.grading import graders

    grader = graders.load(task, data)
    grader.warm()
    return grader


@lru_cache(maxsize=16)
def _fingerprint(prepared: Path) -> tuple[str, float] | str:
    """That of the data that lie prepared now, and when they were changed last; or why there is none."""
    from helpers.data import fingerprint

    size = values.count((disk.read_json(prepared / fingerprint.FILE) or {}).get("bytes")) or 0
    _tell(prepared, size)
    try:
        return fingerprint.anew(prepared)
    except OSError as error:
        return f"{prepared}: {error.strerror}"


@lru_cache(maxsize=16)
def _sha256(path: Path) -> tuple[str, float]:
    """The sha256 of a file, and when it was changed last. Raises OSError."""
    status, digest = path.stat(), hashlib.sha256()
    _tell(path, status.st_size)
    with path.open("rb") as file:
        while piece := file.read(2**22):
            digest.update(piece)
    return digest.hexdigest(), status.st_mtime


@lru_cache(maxsize=16)
def loads(group: str) -> dict[str, load.Served]:
    """How loaded a workflow's servers were, by job id."""
    return load.servers(group)


def forget() -> None:
    """Have all files read again."""
    for function in (_grader, _fingerprint, _sha256, loads):
        function.cache_clear()


def _tell(path: Path, size: int) -> None:
    if size > LARGE:
        print(f"reading {path}, {size / 2**30:.1f} GiB …", file=sys.stderr, flush=True)


def _lines_with(path: Path) -> int | None:
    """The lines of a log that name a request for an answer; None of one that can't be read, or is larger than LOG_BYTES."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LOG_BYTES:
            return None
        with path.open("rb") as file:
            return sum(ASKED in line for line in iter(lambda: file.readline(LINE_BYTES), b""))
    except OSError:
        return None
