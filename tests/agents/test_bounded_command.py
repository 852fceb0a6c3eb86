"""How mini-swe-agent's commands are run: in time, with bounded output, and without waiting for what they leave behind."""

import os
import sys
import time

import pytest
from agent_support import AGENTS, wait_for


@pytest.fixture
def command(monkeypatch):
    monkeypatch.syspath_prepend(str(AGENTS / "mini-swe"))
    sys.modules.pop("bounded_command", None)
    import bounded_command

    return bounded_command


@pytest.fixture
def run(command, tmp_path):
    return lambda text, seconds=20: command.run_command(text, str(tmp_path), dict(os.environ), seconds)


def test_output_and_code_of_a_command(run, tmp_path):
    assert run("echo out; echo err >&2; pwd; [[ bash == b* ]]") == (f"out\nerr\n{tmp_path}\n", 0, "")
    assert run("cat; printf '\\xff'; exit 3") == ("\ufffd", 3, "")  # nothing to read from, and no text
    assert run("kill -9 $$")[1:] == (-9, "")
    assert run("exec >&- 2>&-; sleep 0.2; exit 4") == ("", 4, "")


def test_the_middle_of_a_long_output_is_left_out(run, command):
    text, code, problem = run("head -c 30000000 /dev/zero | tr '\\0' x; echo end")
    assert (code, problem) == (0, "")
    between = f"\n[{30000004 - command.MOST_KEPT} bytes are left out here]\n"
    half = command.MOST_KEPT // 2
    assert text == "x" * half + between + "x" * (half - 4) + "end\n"
    short = "y" * (command.MOST_KEPT - 1) + "\n"
    assert run(f"head -c {command.MOST_KEPT - 1} /dev/zero | tr '\\0' y; echo")[0] == short


@pytest.mark.parametrize(
    "text",
    ["sleep 60", "trap '' TERM INT; sleep 60 & wait", "yes", "exec >&- 2>&-; sleep 60"],
    ids=["sleep", "stubborn", "endless", "silent"],
)
def test_the_time_limit_ends_a_command_and_what_it_has_started(run, tmp_path, text):
    began = time.monotonic()
    output, code, problem = run(f"echo $$ >pid; echo begun; {text}", 1)
    assert time.monotonic() - began < 8
    assert (code, problem) == (-1, "The command was ended after 1 s, its time limit")
    assert output.startswith("begun") and len(output) < 101_000
    group = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        wait_for(lambda: os.killpg(group, 0), 5)


def test_what_runs_in_the_background_is_not_waited_for(run, tmp_path):
    began = time.monotonic()
    output, code, problem = run("sleep 60 & echo $! >pid; echo done")
    assert time.monotonic() - began < 8
    assert (output, code, problem) == ("done\n", 0, "")
    os.kill(int((tmp_path / "pid").read_text()), 9)  # it lives: a server that is to be tried, say


@pytest.mark.parametrize(("text", "folder"), [("true", "/nowhere"), ("a\0b", "/")])
def test_what_can_not_be_started(command, text, folder):
    with pytest.raises((OSError, ValueError)):
        command.run_command(text, folder, {}, 5)
