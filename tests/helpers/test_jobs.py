from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.jobs import cli, fleet
from helpers.jobs.kinds import base
from helpers.jobs.watch import Watch
from helpers.lib import disk
from helpers.scheduler.query import Job, SchedulerUnavailable

# Every reason that squeue of Slurm 22.05.8 can give for a job that waits (its library's own texts).
SLURM_REASONS = (
    """
None Priority Dependency Resources PartitionNodeLimit PartitionTimeLimit PartitionDown PartitionInactive JobHeldAdmin
JobHeldUser BeginTime Licenses AssociationJobLimit AssociationResourceLimit AssociationTimeLimit Reservation
ReqNodeNotAvail FrontEndDown NodeDown BadConstraints JobLaunchFailure JobArrayTaskLimit QOSJobLimit QOSResourceLimit
QOSTimeLimit Cleaning Prolog QOSNotAllowed AccountNotAllowed DependencyNeverSatisfied AccountingPolicy InvalidAccount
InvalidQOS QOSUsageThreshold ReservationDeleted PartitionConfig MaxMemPerLimit AssocGrpCpuLimit AssocGrpMemLimit
AssocGrpCPUMinutesLimit AssocGrpCPURunMinutesLimit AssocGrpJobsLimit AssocGrpNodeLimit AssocGrpSubmitJobsLimit
AssocGrpWallLimit AssocMaxCpuMinutesPerJobLimit AssocMaxCpuPerJobLimit AssocMaxJobsLimit AssocMaxNodePerJobLimit
AssocMaxWallDurationPerJobLimit AssocMaxSubmitJobLimit AssocGrpGRES AssocGrpGRESMinutes AssocGrpGRESRunMinutes
AssocMaxGRESPerJob AssocMaxGRESPerNode AssocGrpBillingMinutes QOSGrpCpuLimit QOSGrpCPUMinutesLimit QOSGrpGRES
QOSGrpGRESMinutes QOSGrpMemLimit QOSGrpNodeLimit QOSGrpJobsLimit QOSGrpSubmitJobsLimit QOSGrpWallLimit
QOSMaxCpuMinutesPerJobLimit QOSMaxCpuPerJobLimit QOSMaxCpuPerUserLimit QOSMaxGRESPerJob QOSMaxGRESPerUser
QOSMaxJobsPerUserLimit QOSMaxMemoryPerUser QOSMaxNodePerUserLimit QOSMaxSubmitJobPerUserLimit
QOSMaxWallDurationPerJobLimit QOSMinCpuNotSatisfied QOSMinGRES MaxGRESPerAccount MaxJobsPerAccount
MaxSubmitJobsPerAccount JobHoldMaxRequeue RequeueExitHold
""".split()
    + [
        "",
        "launch failed requeued held",
        "job requeued in held state",
        "ReqNodeNotAvail, UnavailableNodes:gpu[1-2]",
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
    ]
)


class FakeScheduler:
    """answers: what each question finds, the last one for ever; None: no answer. asked and done note the calls."""

    def __init__(self, *answers: dict[str, Any] | None):
        self.answers = list(answers)
        self.asked: list[list[str]] = []
        self.cancelled: list[str] = []
        self.made_for: list[tuple[str, str]] = []

    def __call__(self, kind: str, address_dir: str) -> FakeScheduler:
        self.made_for.append((kind, address_dir))
        self.kind = kind
        return self

    def states(self, ids: list[str], fresh: int = 0) -> dict[str, Job]:
        self.asked.append(list(ids))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            raise SchedulerUnavailable("connect failure")
        told = {job: answer.get(job, "GONE") for job in ids}
        return {job: one if isinstance(one, Job) else Job(job, one) for job, one in told.items()}

    def cancel(self, ids: list[str]) -> None:
        self.cancelled += ids
        self.answers = [(self.answers[-1] or {}) | dict.fromkeys(ids, "CANCELLED")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "DOUBT_SECONDS", 0.01)
    monkeypatch.setattr(fleet, "END_SECONDS", 0.3)


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeScheduler]:
    def answering(*answers: dict[str, Any] | None) -> FakeScheduler:
        fake = FakeScheduler(*answers)
        monkeypatch.setattr(base, "Scheduler", fake)
        return fake

    return answering


def put(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def make_group(folder: Path, agents: list[str], **changes: Any) -> Path:
    """A workflow with jobs 11 (grading server), 12 (model server) and those of its agents, each with an open run."""
    record = {
        "competition": "toy",
        "agent": "aide",
        "model": "30b",
        "site": "della",
        "config": {
            "scheduler": {"kind": "local"},
            "paths": {"address_dir": "/addresses"},
            "partitions": {"cpu": {"name": None}, "gpu": {"name": "a100"}},
        },
        "model_config": {"engine": "vllm", "gpus": 1},
        "jobs": {"grading_server": "11", "model_server": "12", "agents": agents},
    }
    put(folder / "workflow.json", record | changes)
    (folder / "logs").mkdir()
    for job in agents:
        make_run(folder, job)
    return folder


def make_run(group: Path, job: str, state: str = "running", **changes: Any) -> Path:
    run = group / f"toy_{job}"
    put(run / "run_metadata.json", {"state": state, "job_id": job, "agent": "aide", "reason": "so", **changes})
    return run


def state_of(group: Path, job: str) -> str:
    return json.loads((group / f"toy_{job}" / "run_metadata.json").read_text())["state"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site whose runs lie in <tmp>/runs, which is returned; given to jobs.sh by $HPC_SITE."""
    file = tmp_path / "here.yaml"
    file.write_text(f"extends: local\npaths: {{runs: {tmp_path}/runs, address_dir: {tmp_path}/addresses}}\n")
    monkeypatch.setenv("HPC_SITE", str(file))
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def call(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = cli.main(list(map(str, arguments)))
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def lines_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


# ---- which run


def test_the_newest_run_is_the_default(site: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({"13": "RUNNING"})
    for name in ("2026-01-01T10_run-group_aide", "2026-01-02T09_run-group_aide", "2025-12-31T23_run-group_aide"):
        make_group(site / name, ["13"])
    (site / "logs").mkdir()
    assert call(capsys, "status")[1].startswith(f"{site}/2026-01-02T09_run-group_aide\n")


@pytest.mark.parametrize(
    "word",
    [
        "runs/g_run-group_a",
        "{site}/g_run-group_a/",
        "g_run-group_a",
        "13",
        "11",
        "12",
        "toy_13",
        "g_run-group_a/toy_13",
        "runs/g_run-group_a/toy_13/logs",
        "runs/g_run-group_a/logs",
    ],
)
def test_ways_to_name_a_run(site: Path, scheduler: Any, capsys: Any, word: str) -> None:
    scheduler({"13": "RUNNING"})
    group = make_group(site / "g_run-group_a", ["13"])
    (group / "toy_13" / "logs").mkdir()
    make_group(site / "h_run-group_a", ["3"], jobs={"agents": ["3"]})
    code, out, _ = call(capsys, "status", word.format(site=site))
    assert (code, out.splitlines()[0]) == (0, str(group))


def test_a_run_named_by_its_path_needs_no_site(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"13": "RUNNING"})
    group = make_group(tmp_path / "g", ["13"])
    assert call(capsys, "status", group, "--site", "no-such-site")[0] == 0
    assert fake.made_for == [("local", "/addresses")]


def test_a_job_number_given_twice_means_the_newer_run(site: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({"13": "RUNNING"})
    for name in ("1_run-group_a", "2_run-group_a"):
        make_group(site / name, ["13"])
    assert call(capsys, "status", "13")[1].startswith(f"{site}/2_run-group_a\n")


@pytest.mark.parametrize("word", ["nonsense", "99", "toy_99", "", "../..", "/", "runs", "a\x1b[31mb", "*", "-1"])
def test_an_unknown_run_lists_the_newest_five(site: Path, scheduler: Any, capsys: Any, word: str) -> None:
    scheduler({})
    for number in range(7):
        make_group(site / f"{number}_run-group_a", ["13"])
    code, out, error = call(capsys, "status", "--", word)
    assert (code, out) == (2, "")
    assert error.splitlines()[-5:] == [f"  {number}_run-group_a" for number in (6, 5, 4, 3, 2)]


def test_no_runs_at_all(site: Path, capsys: Any) -> None:
    for arguments in (["status"], ["why", "13"]):
        code, _, error = call(capsys, *arguments)
        assert code == 2
        assert str(site) in error


def test_an_unknown_site_is_a_message(capsys: Any) -> None:
    code, _, error = call(capsys, "status", "--site", "no-such-site")
    assert code == 2
    assert "no-such-site" in error


@pytest.mark.parametrize(
    "arguments", [[], ["start"], ["status", "a", "b"], ["logs", "a", "kernel"], ["stop", "--force"]]
)
def test_wrong_usage(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"jobs": 3}',
        '{"jobs": {"agents": 3}, "config": []}',
        '{"config": {"scheduler": {"kind": "pbs"}}}',
    ],
)
@pytest.mark.parametrize("verb", ["status", "logs", "why", "stop"])
def test_a_damaged_workflow_is_no_traceback(site: Path, scheduler: Any, capsys: Any, verb: str, text: str) -> None:
    fake = scheduler({"13": "RUNNING"})
    group = make_group(site / "g", ["13"])
    (group / "workflow.json").write_text(text)
    code, out, _ = call(capsys, verb, group)
    assert code == 0
    assert "13" in out
    assert fake.made_for[0][0] == "local"


def test_a_run_submitted_by_hand_shows_the_servers_that_it_uses(site: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"13": "RUNNING", "11": "RUNNING", "12": "RUNNING"})
    group = site / "2026_run-group_aide"
    make_run(group, "13", grading_job="11", model_job="12", model="30b")
    out = call(capsys, "status", "13")[1]
    assert [line[-4:] for line in lines_of(out)[1:4]] == [
        ["server", "job", "11", "RUNNING"],
        ["30b", "job", "12", "RUNNING"],
        ["aide", "job", "13", "RUNNING"],
    ]
    call(capsys, "stop", group)
    assert fake.cancelled == ["13"]


def test_a_submission_that_was_killed_midway_is_known_by_what_it_noted(site: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"11": "PENDING", "12": "RUNNING"})
    group = make_group(site / "g_run-group_a", [], jobs={"agents": []})
    (group / "jobs").mkdir()
    (group / "jobs" / "submitted").write_text("model_server=12\ngrading_server=11\nagent=13\nnonsense\nagent=-all\n")
    assert call(capsys, "status", "12")[0] == 0
    call(capsys, "stop", group)
    assert fake.cancelled == ["11", "12"]


def test_names_that_are_no_job_numbers_never_reach_the_scheduler(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({})
    group = make_group(
        tmp_path / "g", [], jobs={"grading_server": "--all", "model_server": "1;2", "agents": ["x", "13"]}
    )
    make_run(group, "13", "scored", grading_job="-u root")
    call(capsys, "stop", group)
    assert {job for ids in fake.asked for job in ids} == {"13"}


# ---- status, and settling


def test_status_as_lines_and_as_json(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13", "14"])
    run = make_run(group, "14", "scored", reason="graded")
    put(run / "grading_report.json", {"total_score": 0.5})
    scheduler(
        {
            "11": Job("11", "RUNNING", "None", "75", "n1"),
            "12": Job("12", "PENDING", "Resources", "0:00", ""),
            "13": Job("13", "RUNNING", "None", "1:02:03", "n2"),
            "14": "COMPLETED",
        }
    )
    assert lines_of(call(capsys, "status", group)[1]) == [
        [str(group)],
        ["grading", "server", "job", "11", "RUNNING", "1:15", "n1"],
        ["model", "30b", "job", "12", "PENDING", "Resources", "0:00"],
        ["agent", "aide", "#0", "job", "13", "RUNNING", "1:02:03", "n2"],
        ["agent", "aide", "#1", "job", "14", "COMPLETED"],
        ["toy_13", "running", "so"],
        ["toy_14", "scored", "score", "0.5"],
        [
            *"aide: 1 of 2 rollouts scored (1 running), mean 0.5, no spread (one score alone has none), lowest 0.5,".split()
        ]
        + "highest 0.5 (the competition's metric; whether higher or lower is better is not known)".split(),
    ]
    code, out, _ = call(capsys, "status", "--json", group)
    data = json.loads(out)
    assert (code, data["run"]) == (0, str(group))
    assert data["jobs"][1] == {
        "name": "model 30b",
        "part": "model",
        "id": "12",
        "state": "PENDING",
        "reason": "Resources",
        "elapsed": "0:00",
        "node": "",
        "doing": None,
    }
    assert [(one["job_id"], one["state"], one["score"]) for one in data["runs"]] == [
        ("13", "running", None),
        ("14", "scored", 0.5),
    ]


@pytest.mark.parametrize(
    ("word", "state"), [("NODE_FAIL", "lost"), ("GONE", "lost"), ("TIMEOUT", "timed_out"), ("CANCELLED", "cancelled")]
)
def test_a_run_whose_job_died_silently_is_settled(
    tmp_path: Path, scheduler: Any, capsys: Any, word: str, state: str
) -> None:
    fake = scheduler({"13": word})
    group = make_group(tmp_path / "g", ["13"])
    assert [state] == [line[1] for line in lines_of(call(capsys, "status", group)[1]) if line[0] == "toy_13"]
    assert state_of(group, "13") == state
    assert fake.asked == [["11", "12", "13"], ["13"]]


def test_one_look_is_not_enough(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({"13": "GONE"}, {"13": "RUNNING"})
    group = make_group(tmp_path / "g", ["13"])
    call(capsys, "status", group)
    assert state_of(group, "13") == "running"


def test_a_last_word_that_shows_late_counts(tmp_path: Path, scheduler: Any, capsys: Any, monkeypatch: Any) -> None:
    scheduler({"13": "COMPLETED"})
    group = make_group(tmp_path / "g", ["13"])
    sleep = fleet.time.sleep
    monkeypatch.setattr(
        fleet.time, "sleep", lambda time: (make_run(group, "13", "scored", reason="graded"), sleep(time))
    )
    assert "scored" in call(capsys, "status", group)[1]
    assert state_of(group, "13") == "scored"


def test_a_scheduler_that_does_not_answer_settles_nothing(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    for answers in ([None], [{"13": "GONE"}, None]):
        scheduler(*answers)
        code, out, error = call(capsys, "status", group)
        assert (code, out) == (3, "")
        assert "doesn't answer" in error and "connect failure" in error and "toy_13  running" in error
    for verb in ("why", "stop"):
        scheduler(None)
        assert call(capsys, verb, group)[0] == 3
    assert state_of(group, "13") == "running"


def test_another_persons_run_can_be_looked_at(tmp_path: Path, scheduler: Any, capsys: Any, monkeypatch: Any) -> None:
    scheduler({"13": "GONE"})
    group = make_group(tmp_path / "g", ["13"])

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk, "write_json", refuse)
    code, _, error = call(capsys, "status", group)
    assert code == 0
    assert "Permission denied" in error


def test_a_terminal_is_not_driven_by_what_files_say(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({"13": "FAILED"})
    group = make_group(tmp_path / "g", ["13"])
    make_run(group, "13", "lost", reason="\x1b]0;title\x07 \x9b31m {id} bad \ud800")
    (group / "logs" / "a-13.out").write_text("\x1b[2J evil \x9b {reason}\n")
    for verb in ("status", "logs", "why"):
        code, out, _ = call(capsys, verb, group)
        assert code == 0
        assert not {"\x1b", "\x07", "\x9b"} & set(out)
    assert "{id} bad" in call(capsys, "why", group)[1]


# ---- stop


def test_stop_ends_what_lives_and_settles_its_runs(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"11": "RUNNING", "12": "PENDING", "13": "RUNNING", "14": "COMPLETED"})
    group = make_group(tmp_path / "g", ["13", "14"])
    make_run(group, "14", "scored")
    code, out, _ = call(capsys, "stop", group)
    assert (code, fake.cancelled) == (0, ["11", "12", "13"])
    assert "stopped: grading server (job 11), model 30b (job 12), agent aide #0 (job 13)" in out
    assert (state_of(group, "13"), state_of(group, "14")) == ("cancelled", "scored")


def test_stop_removes_what_servers_left_that_never_began(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({"11": "PENDING", "12": "PENDING", "13": "PENDING"})
    config = {"scheduler": {"kind": "slurm"}, "paths": {"address_dir": str(tmp_path / "addresses")}}
    group = make_group(tmp_path / "g", ["13"], config=config)
    for name in ("grading_server_11.consumers", "vllm_30b_12.consumers", "vllm_30b_99.consumers"):
        (tmp_path / "addresses" / name).mkdir(parents=True)
    assert call(capsys, "stop", group)[0] == 0
    assert [path.name for path in (tmp_path / "addresses").iterdir()] == ["vllm_30b_99.consumers"]


def test_stop_with_nothing_to_stop(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"13": "COMPLETED"})
    group = make_group(tmp_path / "g", ["13"])
    make_run(group, "13", "scored")
    code, out, _ = call(capsys, "stop", group)
    assert (code, fake.cancelled) == (0, [])
    assert "nothing to stop" in out
    assert json.loads(call(capsys, "stop", group, "--json")[1])["stopped"] == []


def test_stop_of_one_agent_leaves_the_others_and_their_servers(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"11": "RUNNING", "12": "RUNNING", "13": "RUNNING", "14": "RUNNING"})
    group = make_group(tmp_path / "g", ["13", "14"])
    assert "its servers go on" in call(capsys, "stop", group / "toy_14")[1]
    assert fake.cancelled == ["14"]
    assert (state_of(group, "13"), state_of(group, "14")) == ("running", "cancelled")
    call(capsys, "stop", group / "toy_13")
    assert fake.cancelled == ["14", "11", "12", "13"]


def test_stop_leaves_a_server_that_another_run_started(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"11": "RUNNING", "12": "RUNNING", "13": "RUNNING"})
    group = make_group(tmp_path / "g", ["13"], reused={"grading": True, "model": True})
    call(capsys, "stop", group)
    assert fake.cancelled == ["13"]


def test_stop_keeps_what_the_agent_said_at_its_end(
    tmp_path: Path, scheduler: Any, capsys: Any, monkeypatch: Any
) -> None:
    fake = scheduler({"13": "RUNNING"})
    group = make_group(tmp_path / "g", ["13"])
    cancel = fake.cancel

    def finish(ids: list[str]) -> None:
        make_run(group, "13", "scored", reason="graded")
        cancel(ids)

    monkeypatch.setattr(fake, "cancel", finish)
    call(capsys, "stop", group)
    assert state_of(group, "13") == "scored"


def test_a_job_that_does_not_go_is_said_and_not_settled(
    tmp_path: Path, scheduler: Any, capsys: Any, monkeypatch: Any
) -> None:
    fake = scheduler({"13": "RUNNING"})
    monkeypatch.setattr(fake, "cancel", lambda ids: None)
    group = make_group(tmp_path / "g", ["13"])
    code, _, error = call(capsys, "stop", group)
    assert code == 3
    assert "job 13" in error
    assert state_of(group, "13") == "running"


def test_a_scheduler_that_falls_silent_during_stop_is_waited_for(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"13": "RUNNING"})
    group = make_group(tmp_path / "g", ["13"])
    fake.cancel = lambda ids: fake.answers.__setitem__(slice(None), [None, {"13": "RUNNING"}])
    assert call(capsys, "stop", group)[0] == 3
    assert state_of(group, "13") == "running"
    fake.cancel = lambda ids: fake.answers.__setitem__(slice(None), [None, {"13": "CANCELLED"}])
    assert call(capsys, "stop", group)[0] == 0
    assert state_of(group, "13") == "cancelled"


# ---- logs


def test_logs_come_in_the_order_to_read_them(tmp_path: Path, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    for name in ("grading_server-11", "vllm_30b-12", "agent_aide-13", "agent_aide-113"):
        (group / "logs" / f"{name}.out").write_text("".join(f"{name} {number}\n" for number in range(60)))
    code, out, _ = call(capsys, "logs", group)
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("==")] == [
        f"== agent aide (job 13): {group}/logs/agent_aide-13.out",
        f"== grading server (job 11): {group}/logs/grading_server-11.out",
        f"== model 30b (job 12): {group}/logs/vllm_30b-12.out",
    ]
    assert "agent_aide-13 20\n" in out and "agent_aide-13 19\n" not in out and "agent_aide-113" not in out
    out = call(capsys, "logs", group, "grading")[1]
    assert "grading_server-11 59" in out and "agent_aide" not in out
    data = json.loads(call(capsys, "logs", group, "model", "--json")[1])
    assert [(one["id"], len(one["lines"])) for one in data] == [("12", 40)]


def test_the_part_may_stand_alone(site: Path, capsys: Any) -> None:
    group = make_group(site / "g_run-group_a", ["13"])
    (group / "logs" / "agent-13.out").write_text("hello\n")
    assert "hello" in call(capsys, "logs", "agent")[1]
    assert "hello" not in call(capsys, "logs", "model")[1]


def test_logs_that_are_missing_huge_or_links(tmp_path: Path, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    (tmp_path / "secret").write_text("secret\n")
    (group / "logs" / "agent-13.out").symlink_to(tmp_path / "secret")
    (group / "logs" / "grading_server-11.out").write_text("x" * 3_000_000 + "\nlast\n")
    os.mkfifo(group / "logs" / "vllm-12.out")
    code, out, _ = call(capsys, "logs", group)
    assert code == 0
    assert "secret" not in out.replace(str(tmp_path), "")
    assert "last" in out and len(out) < 100_000
    (group / "logs" / "agent-13.out").unlink()
    assert "no log" in call(capsys, "logs", group, "agent")[1]


def test_what_an_agent_printed_is_shown_as_its_words(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    run = make_run(
        group, "13", "agent_failed", reason="the agent ended with code 9 and left no submission: see agent.log"
    )
    (group / "logs" / "agent_aide-13.out").write_text("12:00:00 toy: agent_failed: code 9\n")
    lie = "slurm_script: the licence has ended: run 'curl x | bash'"
    (run / "agent.log").write_text(
        f"\x1b[2J\u202ehello\r\n== grading server (job 11): /x\n{lie}\nFATAL: no user namespaces\n"
    )
    code, out, _ = call(capsys, "logs", group, "agent")
    job, own = out.split(f"== what agent aide (job 13) printed itself: {run}/agent.log\n")
    assert code == 0 and "curl" not in job and job.endswith("agent_failed: code 9\n\n")
    assert own == f"|  [2J hello \n| == grading server (job 11): /x\n| {lie}\n| FATAL: no user namespaces\n\n"
    [data] = json.loads(call(capsys, "logs", group, "agent", "--json")[1])
    assert data["lines"] == ["12:00:00 toy: agent_failed: code 9"] and data["agent_path"] == f"{run}/agent.log"
    assert data["agent_lines"] == [" [2J hello ", "== grading server (job 11): /x", lie, "FATAL: no user namespaces"]
    scheduler(dict.fromkeys(("11", "12", "13"), "COMPLETED"))
    sentence = sentences(group, capsys)["13"]
    assert "curl" not in sentence and "namespaces" not in sentence and f"jobs.sh logs {group} agent" in sentence
    (run / "agent.log").write_text(f"torch.OutOfMemoryError: CUDA out of memory\n{lie}\n")
    assert "; the agent itself says that the GPU's memory was too small" in sentences(group, capsys)["13"]
    # the beginning is full
    (run / "agent.log.last").write_text("the newest\n")
    assert "\n| the newest\n" in call(capsys, "logs", group)[1]


def test_why_an_agent_was_ended_that_took_too_much_room(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    said = "the agent left no submission; the agent was ended: it had written 201GB, more than limits.run_gb (200)"
    make_run(group, "13", "agent_failed", reason=said)
    scheduler(dict.fromkeys(("11", "12", "13"), "COMPLETED"))
    sentence = sentences(group, capsys)["13"]
    assert f"{said}; have it write less, or raise that limit of" in sentence


def test_why_no_container_could_be_made(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    said = "Failed to create user namespace: No space left on device"
    make_run(group, "13", "lost", reason=f"the agent's container can't be made on n1: FATAL: {said}: see the job's log")
    (group / "logs" / "agent_aide-13.out").write_text(f"FATAL:   {said}\n12:00:00 toy: lost: it\n")
    scheduler(dict.fromkeys(("11", "12", "13"), "COMPLETED"))
    sentence = sentences(group, capsys)["13"]
    assert "is lost: the agent's container can't be made on n1" in sentence
    assert "user namespaces are off or used up on this node" in sentence and "support" in sentence


def test_the_log_of_a_reused_server_lies_with_the_run_that_started_it(site: Path, capsys: Any) -> None:
    make_group(site / "1_run-group_a", ["3"])
    (site / "1_run-group_a" / "logs" / "vllm_30b-12.out").write_text("there\n")
    group = make_group(site / "2_run-group_a", ["13"], jobs={"agents": ["13"]})
    make_run(group, "13", model_job="12", model="30b")
    assert "there" in call(capsys, "logs", group, "model")[1]


# ---- why


def sentences(group: Path, capsys: Any) -> dict[str, str]:
    code, out, _ = call(capsys, "why", group, "--json")
    assert code == 0
    return {one["id"]: one["sentence"] for one in json.loads(out)}


@pytest.mark.parametrize("reason", SLURM_REASONS)
def test_every_reason_of_slurm_has_a_sentence(tmp_path: Path, scheduler: Any, capsys: Any, reason: str) -> None:
    group = make_group(tmp_path / "g", ["13"])
    scheduler({job: Job(job, "PENDING", reason) for job in ("11", "12", "13")})
    found = sentences(group, capsys)
    for name, job in (("grading server", "11"), ("model 30b", "12"), ("agent aide", "13")):
        assert found[job].startswith(f"{name} (job {job}) ")
        assert "the scheduler says" not in found[job]
        assert not set("{}\n") & set(found[job])
        assert found[job].count(": ") >= 1 and found[job].endswith(".")


@pytest.mark.parametrize(
    ("job", "reason", "cause", "advice"),
    [
        ("12", "Resources", "enough of partition a100 is free", "memory_gb of the model in site-config/models.yaml"),
        ("13", "Priority", "higher priority", "squeue --start --jobs=13"),
        ("13", "JobHeldUser", "held by its owner", "scontrol release 13"),
        ("12", "PartitionTimeLimit", "will never start", "jobs.model_server.time of site della"),
        ("13", "PartitionTimeLimit", "will never start", "--time-limit, or jobs.agent.time_limit of site della"),
        ("12", "PartitionDown", "a100 is closed", "partitions.gpu.name of site della"),
        ("11", "PartitionDown", "of role cpu is closed", "partitions.cpu.name of site della"),
        ("12", "AssocGrpGRES", "use all that they may have at once", "partitions.gpu.account"),
        ("12", "AssocGrpGRESMinutes", "budget of hours is used up", "get more hours"),
        ("12", "AssocGrpWallLimit", "budget of hours is used up", "get more hours"),
        ("12", "QOSMaxWallDurationPerJobLimit", "more time than", "jobs.model_server.time"),
        ("12", "QOSMaxGRESPerUser", "one user or account", "squeue --me"),
        ("12", "QOSMaxGRESPerJob", "more than one job may have", "gpus, cpus or memory_gb"),
        ("13", "QOSMaxJobsPerUserLimit", "as many jobs run", "wait until one ends"),
        ("13", "AssocMaxSubmitJobLimit", "one job too many", "limits.max_submit"),
        ("13", "InvalidAccount", "may not be used here", "scheduler.account"),
        ("13", "ReqNodeNotAvail, UnavailableNodes:n1", "down, drained or reserved", "sinfo -R"),
        ("13", "launch failed requeued held", "could not be started on its node", "scontrol release 13"),
        ("13", "DependencyNeverSatisfied", "can't start any more", "jobs.sh stop"),
        ("13", "Dependency", "the jobs before it", "see what those wait for"),
        ("13", "SomethingNew{0}", "the scheduler says 'SomethingNew{0}'", "scontrol show job 13"),
    ],
)
def test_why_a_job_waits(
    tmp_path: Path, scheduler: Any, capsys: Any, job: str, reason: str, cause: str, advice: str
) -> None:
    group = make_group(tmp_path / "g", ["13"])
    scheduler(dict.fromkeys(("11", "12", "13"), "RUNNING") | {job: Job(job, "PENDING", reason)})
    sentence = sentences(group, capsys)[job]
    assert cause in sentence and advice in sentence


def test_why_of_a_healthy_run(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    make_run(group, "13", "waiting")
    put(group / "services" / "grading_server_11.json", {"ready_at": "2026-01-01T00:00:00Z", "ended_at": None})
    put(group / "services" / "vllm_30b_12.json", {"ready_at": None})
    scheduler(dict.fromkeys(("11", "12", "13"), "RUNNING"))
    found = sentences(group, capsys)
    assert "serves" in found["11"]
    assert "loading the model" in found["12"]
    assert "waits for model 30b (running)" in found["13"]
    put(
        group / "services" / "vllm_30b_12.json",
        {"ready_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:01:00Z"},
    )
    assert "ends" in sentences(group, capsys)["12"]
    one = Watch(group)
    one.look()
    assert sorted(row[4] for row in one.lines()) == ["ending", "ready", "waiting"]


def test_why_of_a_run_that_went_well(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    make_run(group, "13", "scored")
    scheduler({"11": "COMPLETED", "12": "CANCELLED", "13": "COMPLETED"})
    assert call(capsys, "why", group)[1] == "g: nothing waits and nothing died\n"
    assert sentences(group, capsys) == {}


def test_why_nothing_was_submitted(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({})
    group = make_group(tmp_path / "g", [], jobs={"agents": []})
    assert "nothing was submitted" in call(capsys, "why", group)[1]


@pytest.mark.parametrize(
    ("state", "job", "cause", "advice"),
    [
        ("OUT_OF_MEMORY", "12", "needed more memory", "raise memory_gb of the model in site-config/models.yaml"),
        ("OUT_OF_MEMORY", "11", "needed more memory", "raise jobs.grading_server.memory_gb of site della"),
        ("TIMEOUT", "12", "time limit", "raise jobs.model_server.time"),
        ("NODE_FAIL", "12", "died with its node n7", "scheduler.extra_sbatch"),
        ("PREEMPTED", "12", "make room", "QOS or partition that is not preempted"),
        ("CANCELLED", "12", "was cancelled", "run again when wanted"),
        ("FAILED", "12", "failed and left no log", "write to"),
        ("GONE", "12", "doesn't know it any more", "jobs.sh logs"),
        ("SOMETHING_NEW", "12", "failed", "jobs.sh logs"),
    ],
)
def test_why_a_server_died(
    tmp_path: Path, scheduler: Any, capsys: Any, state: str, job: str, cause: str, advice: str
) -> None:
    group = make_group(tmp_path / "g", ["13"])
    make_run(group, "13", "lost", reason=f"job {job}, a server that this run needs, has ended")
    scheduler({"11": "COMPLETED", "12": "COMPLETED", job: Job(job, state, node="n7"), "13": "FAILED"})
    found = sentences(group, capsys)
    assert cause in found[job] and advice in found[job]
    assert "has ended" in found["13"] and "run again: the infrastructure failed" in found["13"]


@pytest.mark.parametrize(
    ("log", "cause", "advice"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "GPU's memory was too small", "models.yaml"),
        ("ValueError: No available memory for the cache blocks.", "context length", "gpu_memory_fraction"),
        ("OSError: [Errno 28] No space left on device", "a disk or quota was full", "paths.scratch"),
        ("ERROR  : Failed to create user namespace: No space left on device", "user namespaces are off", "support"),
        ("OSError: [Errno 98] Address already in use", "its port was taken", "network.ports of site della"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "refused the model's weights", "HF_TOKEN"),
        ("LocalEntryNotFoundError: Cannot find an appropriate cached", "not in the cache", "models.sh download"),
        ("RuntimeError: Found no NVIDIA driver on your system.", "saw no GPU", "gpu.request"),
        ("FATAL:   could not open image /i/vllm.sif: no such file", "image is missing", "build_all_containers.sh"),
        ("Lmod has detected the following error: The following module(s) are unknown", "module", "environment.modules"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=12.batch", "more memory", "memory_gb of the model"),
        ("slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT x DUE TO TIME LIMIT ***", "time limit", "model_server.time"),
        (
            "slurm_script: the image /i/vllm.sif is missing: build it with containers/build.sh --only vllm",
            "it says 'the image /i/vllm.sif is missing'",
            "build it with containers/build.sh --only vllm.",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory.\nslurm_script: vllm_30b died twice with code 1: see its log",
            "GPU's memory was too small",
            "models.yaml",
        ),
        ("slurm_script: vllm_30b died twice: see its log", "it says 'vllm_30b died twice'", "read its log: `scripts"),
        ("/rendered/slurm_vllm_30b.sh: no free port in {a}: try network.ports", "no free port in {a}", "network.ports"),
        ("slurm_script: line 3: apptainer: command not found", "ends with 'slurm_script: line 3", "jobs.sh logs"),
        ("Segmentation fault", "its log ends with 'Segmentation fault'", "jobs.sh logs"),
    ],
)
def test_why_as_the_log_tells_it(
    tmp_path: Path, scheduler: Any, capsys: Any, log: str, cause: str, advice: str
) -> None:
    group = make_group(tmp_path / "g", ["13"])
    make_run(group, "13", "lost")
    before = (
        "loading"
        if cause.startswith(("ends with", "its log ends", "it says 'vllm_30b died"))
        else "Address already in use, long ago"
    )
    (group / "logs" / "vllm_30b-12.out").write_text(f"{before}\n{log}\n")
    scheduler({"11": "COMPLETED", "12": "FAILED", "13": "FAILED"})
    sentence = sentences(group, capsys)["12"]
    assert cause in sentence and advice in sentence


def test_why_a_run_ended_badly(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13", "14", "15"])
    run = make_run(group, "13", "invalid_submission", reason="the submission can't be graded: see grading_report.json")
    put(run / "grading_report.json", {"total_score": None, "note": "column target is missing"})
    make_run(group, "14", "agent_failed", reason="the agent ended with code 1")
    (group / "logs" / "agent_aide-14.out").write_text("MemoryError\n")
    make_run(group, "15", "timed_out", reason="no submission within the time limit of 60 s")
    scheduler(dict.fromkeys(("11", "12", "13", "14", "15"), "COMPLETED"))
    found = sentences(group, capsys)
    assert list(found) == ["13", "14", "15"]
    assert "column target is missing" in found["13"]
    assert "agent_failed: the agent ended with code 1" in found["14"] and "jobs.agent.memory_gb" in found["14"]
    assert "raise --time-limit" in found["15"]


def test_why_an_agents_job_died_before_it_could_note_anything(tmp_path: Path, scheduler: Any, capsys: Any) -> None:
    group = make_group(tmp_path / "g", [], jobs={"agents": ["13"]})
    (group / "logs" / "agent_aide-13.out").write_text("slurm_script: competition 'toy' isn't prepared: prepare it\n")
    scheduler({"13": "FAILED"})
    assert (
        sentences(group, capsys)["13"]
        == "agent aide (job 13) failed; it says 'competition 'toy' isn't prepared': prepare it."
    )


# ---- other kinds of jobs


def make_preparation(folder: Path) -> Path:
    """A preparation of two elements of array 7, of which the second's task failed."""
    record = {
        "site": "della",
        "tasks": ["a", "b", "c", "d"],
        "skipped": ["c"],
        "refused": {"d": "it would be downloaded"},
        "force": False,
        "arrays": [2],
        "elements": 2,
        "failed_tasks": "/failed_tasks.txt",
        "config": {
            "scheduler": {"kind": "slurm"},
            "container": {"runtime": "none"},
            "paths": {"address_dir": "/addresses", "data": str(folder / "data")},
        },
    }
    put(folder / "preparation.json", record)
    for name in ("jobs", "events", "parts", "logs"):
        (folder / name).mkdir()
    for number, task in enumerate("ab"):
        (folder / "parts" / str(number)).write_text(f"{task}\n")
    (folder / "jobs" / "submitted").write_text("prepare=7\n")
    event = {"time": "2026-01-01T00:00:00.000+00:00", "task": "b", "state": "failed", "reason": "no network"}
    (folder / "events" / "1").write_text(json.dumps(event) + "\n")
    (folder / "logs" / "prepare-7_0.out").write_text("at work on a\n")
    return folder


@pytest.mark.parametrize(
    "word", ["{site}/2026-01-02T03-04-05-UTC_prepare", "2026-01-02T03-04-05-UTC_prepare", "7", None]
)
def test_a_preparation_is_known_like_every_other(site: Path, scheduler: Any, capsys: Any, word: str | None) -> None:
    fake = scheduler({"7_0": Job("7_0", "PENDING", "Priority"), "7_1": "FAILED"})
    folder = make_preparation(site / "2026-01-02T03-04-05-UTC_prepare")
    arguments = [] if word is None else [word.format(site=site)]
    code, out, _ = call(capsys, "status", *arguments)
    assert code == 0 and lines_of(out) == [
        [str(folder)],
        ["preparation", "#0", "job", "7_0", "PENDING", "Priority"],
        ["preparation", "#1", "job", "7_1", "FAILED"],
        ["a", "waiting"],
        ["b", "failed", "no", "network"],
        ["c", "skipped"],
        ["d", "failed", "it", "would", "be", "downloaded"],
    ]
    assert fake.asked == [["7_0", "7_1"]]
    found = call(capsys, "why", *arguments)[1]
    assert "preparation #0 (job 7_0) waits behind jobs of higher priority" in found
    assert "preparation #1 (job 7_1) could not prepare b: no network; prepare_tasks.sh --task-list /failed" in found
    assert "at work on a" in call(capsys, "logs", *arguments)[1]
    assert "stopped: preparation #0 (job 7_0)" in call(capsys, "stop", *arguments)[1]
    assert fake.cancelled == ["7_0"]
    data = json.loads(call(capsys, "status", *arguments, "--json")[1])
    assert [(one["task"], one["state"]) for one in data["tasks"]][:2] == [("a", "failed"), ("b", "failed")]


def test_a_preparation_whose_jobs_all_live_is_cancelled_by_its_array(site: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"7_0": "RUNNING", "7_1": "RUNNING"})
    call(capsys, "stop", make_preparation(site / "x-UTC_prepare"))
    assert fake.cancelled == ["7"]


@pytest.mark.parametrize("verb", ["status", "why", "logs", "stop"])
def test_a_damaged_preparation_is_no_traceback(site: Path, scheduler: Any, capsys: Any, verb: str) -> None:
    scheduler({})
    folder = make_preparation(site / "x-UTC_prepare")
    (folder / "preparation.json").write_text('{"tasks": 3}')
    code, _, error = call(capsys, verb, folder)
    assert code == 2 and "missing or damaged" in error


def test_a_notebook_is_known_like_every_other(site: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({"9": "RUNNING"})
    folder = site / "2026-01-02T03-04-05-UTC_notebook"
    config = {"scheduler": {"kind": "slurm"}, "paths": {"address_dir": str(site.parent)}}
    put(folder / "notebook.json", {"task": "toy", "site": "della", "config": config})
    (folder / "jobs").mkdir()
    (folder / "jobs" / "submitted").write_text("notebook=9\n")
    assert lines_of(call(capsys, "status", "9")[1])[1] == ["notebook", "on", "toy", "job", "9", "RUNNING"]
    assert "notebook on toy (job 9) is starting" in call(capsys, "why", folder)[1]
    assert call(capsys, "attach", folder)[0] == 3
    (site.parent / "notebook_9").write_text("https://n1:80\ntoken=x\n")
    assert "is ready" in call(capsys, "why", folder)[1]
    code, out, _ = call(capsys, "attach", folder)
    assert code == 0 and "https://n1:80/lab" in out and "token=x" not in out
    call(capsys, "stop", folder)
    assert fake.cancelled == ["9"]


def test_kinds_are_registered_and_their_folders_are_told_apart() -> None:
    marks = [kind.MARK for kind in base.kinds()]
    # a round of a benchmark is a workflow that has a manifest, too
    assert len(set(marks)) == len(marks) == len({kind.RECORD for kind in base.kinds()}) + 1


# ---- list


def make_dated(site: Path, stamp: str, *states: str, **changes: Any) -> Path:
    """A workflow made at a time, with a run in each of these states."""
    cli = [str(100 * number + int(stamp[8:10])) for number, _ in enumerate(states, 1)]
    group = make_group(site / f"{stamp}-UTC_run-group_aide", cli, **changes)
    for job, state in zip(cli, states, strict=True):
        make_run(
            group,
            job,
            state,
            competition="toy",
            model="30b",
            agent_started_at=f"{stamp[:10]}T{stamp[11:].replace('-', ':')}Z",
        )
    return group


def test_runs_newest_first(site: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({})
    make_dated(site, "2026-01-05T10-00-00", "scored", "lost")
    make_dated(site, "2026-01-07T10-00-00", "agent_failed")
    (site / "2026-01-08T10-00-00-UTC_prepare").mkdir()
    put(
        site / "2026-01-05T10-00-00-UTC_run-group_aide/toy_105/grading_report.json",
        {"score": 0.51234, "metric": "accuracy"},
    )
    code, out, _ = call(capsys, "list")
    head, *rows = lines_of(out)
    assert code == 0 and head == ["JOB", "STATE", "TASK", "MODEL", "AGENT", "SCORE", "GPU-H", "AGE"]
    assert [row[:2] for row in rows] == [["107", "agent_failed"], ["105", "scored"], ["205", "lost"]]
    assert rows[1][2:7] == ["toy", "30b", "aide", "0.5123", "accuracy"]
    assert [row["job_id"] for row in json.loads(call(capsys, "list", "--json")[1])] == ["107", "105", "205"]


def test_runs_since_a_time_and_those_that_run(site: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({"104": "RUNNING", "11": "RUNNING", "12": "RUNNING"})
    make_dated(site, "2026-01-03T10-00-00", "scored")
    make_dated(site, "2026-01-04T10-00-00", "running", "running")
    for options, wanted in (
        (["--since", "2026-01-04"], ["104", "204"]),
        (["--since", "2026-01-04T10:00:01"], []),
        (["--since", "3000w"], ["104", "204", "103"]),
        # whose job is gone is lost by now, and doesn't run
        (["--running"], ["104"]),
    ):
        assert [row["job_id"] for row in json.loads(call(capsys, "list", "--json", *options)[1])] == wanted, options
    assert state_of(site / "2026-01-04T10-00-00-UTC_run-group_aide", "204") == "lost"


def test_what_list_refuses(site: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({})
    assert call(capsys, "list")[:2] == (0, "no such runs\n")
    assert call(capsys, "list", "--since", "yesterday")[0] == 2
    for arguments in (["list", "toy_13"], ["status", "--running"], ["why", "--since", "3d"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2


def test_the_files_tell_where_the_scheduler_does_not(site: Path, scheduler: Any, capsys: Any) -> None:
    scheduler(None)
    make_dated(site, "2026-01-04T10-00-00", "running")
    code, out, error = call(capsys, "list")
    assert code == 3 and " running " in out and "this is what the files say" in error


def test_a_line_of_list_fits_a_terminal(site: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({})
    group = make_dated(site, "2026-01-05T10-00-00", "invalid_submission")
    long = {
        "competition": "a-competition-with-a-name-of-forty-characters",
        "model": "a-model-of-ours",
        "agent": "experiment/data-analysis",
    }
    make_run(group, "105", "invalid_submission", **long)
    lines = call(capsys, "list")[1].splitlines()
    assert max(map(len, lines)) <= 80 and "…" in lines[1]


def test_a_hundred_runs_are_twenty_lines_and_one_question(site: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({})
    for day in range(1, 29):
        make_dated(site, f"2026-01-{day:02}T10-00-00", *["scored"] * 4)
    assert len(lines_of(call(capsys, "list")[1])) == 21 and fake.asked == []
