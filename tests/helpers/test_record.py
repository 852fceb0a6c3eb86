"""run_metadata.json as Python writes it, and the schema that bats holds the job scripts to (tests/check_records.py)."""

import json

import pytest
from check_records import SCHEMA, faults

from helpers.jobs import regrade, submitted
from helpers.jobs.kinds.grading import LaterRun
from helpers.lib import disk
from helpers.runs import metadata
from helpers.runs.one import STATES


@pytest.fixture
def group(tmp_path):
    """A workflow's folder with its record, as it is before its jobs are submitted."""
    folder = tmp_path / "2026-11-27T00-00-00-UTC_run-group_aide"
    folder.mkdir()
    config = {"container": {"runtime": "apptainer"}, "jobs": {"agent": {"cpus": 2}}}
    record = {
        "competition": "toy",
        "agent": "aide",
        "model": "replay",
        "seed": 3,
        "rollouts": 2,
        "data_fingerprint": "ab",
        "config": config,
    }
    disk.write_json(folder / "workflow.json", record)
    return folder


def note(group, *lines):
    """What was submitted, as scripts_hpc/lib/submit.sh notes it."""
    (group / "jobs").mkdir()
    (group / "jobs" / "submitted").write_text("".join(f"{line} a.sh\n" for line in lines))


def read(group, job):
    return json.loads((group / f"toy_{job}" / "run_metadata.json").read_text())


def test_what_waits_what_was_broken_off_and_what_died(group):
    note(group, "grading_server=5", "model_server=6", "agent=7", "agent=8_1")
    submitted.submitted(group)
    assert [faults(read(group, job)) for job in ("7", "8_1")] == [[], []]
    metadata.runs_of(group)[0].settle("lost", "the node died")
    submitted.abandoned(group, ["5", "7", "8_1"])
    assert [(read(group, job)["state"], faults(read(group, job))) for job in ("7", "8_1")] == [
        ("lost", []),
        ("cancelled", []),
    ]


def test_what_is_graded_later_and_again(group):
    note(group, "agent=7")
    submitted.submitted(group)
    folder = group / "toy_7"
    metadata.Run(folder).settle("timed_out", "its job was ended")
    LaterRun(folder, job="9").settle("lost", "no server")
    assert read(group, 7)["later_job"] == "9" and faults(read(group, 7)) == []
    regrade.AgainRun(folder, job="10").settle("lost", "no server")
    assert len(read(group, 7)["grades"]) == 2 and faults(read(group, 7)) == []


def test_the_schema_knows_the_states_and_notices_faults(group):
    ends = SCHEMA["$defs"]["end"]["enum"]
    assert set(ends) == set(metadata.END_STATES) and {*ends, *metadata.OPEN_STATES} == set(STATES)
    note(group, "agent=7")
    submitted.submitted(group)
    record = read(group, 7)
    for key, value in {"state": "done", "job_id": "x", "ended_at": "yesterday", "seed": None, "colour": 1}.items():
        assert len(faults(record | {key: value})) == 1, key
    del record["reason"]
    assert len(faults(record)) == 1
