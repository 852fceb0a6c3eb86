"""Why a command of a backend failed, in one line, from what it printed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    pass
from helpers.prepare.backends import Backend

OUTPUT_BYTES = 2**16  # of a command's output, its end, are searched for what went wrong
REASON_LENGTH = 300
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]+")


class Failure(NamedTuple):
    """Why a command failed, in one line.

    retry: a fault of the network; disk_full: nothing else will fit either; done: an option whose work is done nevertheless.
    """

    reason: str
    retry: bool = False
    disk_full: bool = False
    done: str = ""


_KAGGLE_KEY = (
    "give an API token (kaggle.com, Settings) as KAGGLE_API_TOKEN or in ~/.kaggle/access_token (chmod 600), which Kaggle's client "
    "knows since 1.8; or the older kaggle.json in ~/.kaggle, ~/.config/kaggle or $KAGGLE_CONFIG_DIR, or KAGGLE_USERNAME and "
    "KAGGLE_KEY. Without Kaggle: --raw takes the zip that you fetched elsewhere"
)
_RULES = "accept them at https://www.kaggle.com/c/{name}/rules, with the account of your API token, and prepare the task again"
# Of these, the one that the output names last is the reason: what came before it was overcome. Texts of mlebench/data.py,
# mlebench/utils.py, kaggle 1.6 and 2.2 (rest.py, kaggle_api_extended.py), urllib3, requests, polaris-lib and Python itself.
KNOWN: tuple[tuple[str, str], ...] = (
    (r"must accept th(?:e|is) competition", f"the competition's rules are not accepted: {_RULES}"),
    (r"\(403\)|403 Forbidden|403 - Forbidden|403 Client Error", f"refused (403); most often the rules are not accepted: {_RULES}"),
    (
        r"Could not find kaggle\.json|you must download an API key|Authentication required to call the Kaggle API",
        f"Kaggle's credentials are missing, or not accepted: {_KAGGLE_KEY}",
    ),
    (r"\(401\)|401 - Unauthorized|401 Client Error", f"the credentials were refused (401): {_KAGGLE_KEY}"),
    (r"polaris login", "not logged in to the Polaris Hub: run `polaris login` once on this machine"),
    (
        r"[Cc]hecksums? (?:for .{1,4000} )?do(?:es)? not match",
        "checksum mismatch: not the files that the benchmark was made with; --skip-verification takes them, "
        "--overwrite-checksums records theirs as right; {again}",
    ),
    (
        r"(?:File|directory:?) [`'][^`']*/(?:competitions|tasks)/[^`']*config\.yaml[`']|Invalid task ID",
        "unknown task: {program} has none of this id, nor has this project (`scripts_hpc/tasks.sh list`) or your "
        "folder of tasks (--tasks-dir)",
    ),
    (r"\(404\)|404 Client Error|404 - Not Found", "not found (404): {line}"),
    (
        r"No module named 'kaggle\.rest'",
        "Kaggle's client is too new for mle-bench there: install kaggle<1.7 beside it, which knows kaggle.json only; or prepare it "
        "with scripts_hpc/prepare_tasks.sh, whose image knows API tokens too",
    ),
    (
        r"\['teamNameNullable', 'teamName'\] not found in axis",  # Kaggle's client 2.2: competition_leaderboard_view
        "--overwrite-leaderboard needs kaggle<1.7: newer clients give it 20 rows of a leaderboard, in a form that mle-bench doesn't "
        "read. Leave it out: all leaderboards come with mle-bench's checkout (git lfs pull)",
    ),
    (r"No module named '([\w.]+)'", "the Python package `{match}` is missing where {program} runs: install it there"),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "the server's certificate isn't trusted: set SSL_CERT_FILE and REQUESTS_CA_BUNDLE to your site's CA bundle",
    ),
    (r"407 Proxy Authentication Required", "the proxy wants a login (407): set https_proxy"),
    (r"MemoryError|Cannot allocate memory|[Oo]ut of memory", "out of memory: fewer --threads, or a machine (a job) with more"),
)  # fmt: skip
DISK_FULL = r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]"
NETWORK = (
    r"Max retries exceeded|(?:Temporary failure in n|N)ame(?: or service not known|ResolutionError| resolution)"
    r"|Failed to resolve|Could not resolve host|Network is unreachable|No route to host"
    r"|Connection (?:refused|reset|aborted|broken|timeout|timed out)|ConnectionError|RemoteDisconnected|ChunkedEncodingError"
    r"|IncompleteRead|ReadTimeout|ConnectTimeout|[Rr]ead timed out|TimeoutError|Cannot connect to proxy"
    r"|Couldn't connect to server|RPC failed|early EOF|Operation too slow|returned error: (?:429|50[0234])"  # git's
    r"|\((?:429|50[0234])\)\s*Reason|(?:429|50[0234]) (?:Client|Server) Error|Too Many Requests"
)
# looked for where nothing else is known: mlebench/utils.py says the first of every fault on the way to Kaggle, and a question
# comes after its reason
GENERAL = (
    (r"Kaggle authentication failed", f"Kaggle's credentials don't work: {_KAGGLE_KEY}"),
    (r"EOF when reading a line", "it asked for input, which nobody can give here: run `{command}` by hand once"),
)
# mle-bench saves a leaderboard, and then stumbles over its path, unless it runs in its own checkout (mlebench/data.py)
LEADERBOARD_WRITTEN = r"ValueError: '[^'\n]*/competitions/[^'\n]*' is not in the subpath of"
SAID = re.compile(r"^(?:\w+\.)*(?:\w*(?:Error|Exception|Interrupt|Exit)|error)(?::.*)?$", re.MULTILINE)


def failure(
    backend: Backend, task: str, data_dir: Path, returncode: int, output: str, raw: Path | None = None
) -> Failure:
    """Why a command failed, from its exit code and the end of its output."""
    if re.search(LEADERBOARD_WRITTEN, output):
        return Failure("its leaderboard is there", done="--overwrite-leaderboard")
    words = {"name": task.rpartition("/")[2], "program": backend.program, "data": data_dir / task}
    words["again"] = f"delete {data_dir / task}/{words['name']}.zip, if it is there, to download it again"
    if raw or backend.name == "local":
        words["again"] = "or the raw files were changed or cut: fetch them again"
    words["command"] = f"{backend.program} prepare {'-t' if '/' in task else '-c'} {task}"
    if found := _last(output, re.compile(DISK_FULL)):
        return Failure(f"the disk is full: {_line(output, found)}", disk_full=True)
    if returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return Failure(
            "killed by signal 9, most likely for lack of memory: fewer --threads, or a machine (a job) with more"
        )
    candidates = [(_last(output, re.compile(pattern)), text) for pattern, text in KNOWN]
    candidates.append((_last(output, re.compile(NETWORK)), ""))
    named = [(found, text) for found, text in candidates if found]
    if named:
        found, text = max(named, key=lambda pair: pair[0].start())
        line = _line(output, found)
        if not text:
            return Failure(f"network fault: {_cause(line)}", retry=True)
        match = found[1] if found.groups() else ""
        return Failure(text.format(line=line, match=match, **words))
    for pattern, text in GENERAL:
        if re.search(pattern, output):
            return Failure(text.format(**words))
    return Failure(_unknown(returncode, output))


def _last(output: str, pattern: re.Pattern[str]) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(output):  # noqa: B007
        pass
    return found


def _line(output: str, found: re.Match[str]) -> str:
    start = output.rfind("\n", 0, found.start()) + 1
    end = output.find("\n", found.end())
    return _short(output[start : None if end < 0 else end])


def _cause(line: str) -> str:
    """Of a long error with its causes, as urllib3 makes them, the last one."""
    return line if len(line) <= REASON_LENGTH // 2 else re.sub(r'"?\)+$', "", line.rpartition(": ")[2])


def _unknown(returncode: int, output: str) -> str:
    said = SAID.findall(output) or [line for line in output.splitlines() if CONTROL.sub("", line).strip()]
    last = _short(said[-1]).removeprefix("error: ") if said else "it printed nothing"
    return f"{_ended(returncode)}: {last}"


def _ended(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-returncode).name}"
    return f"ended by signal {-returncode}"


def _short(text: str) -> str:
    """One line without control characters; a long one without its middle."""
    line, half = CONTROL.sub(" ", text).strip(), REASON_LENGTH // 2
    return line if len(line) <= REASON_LENGTH else f"{line[:half]} … {line[-half:]}"


def notes(output: Path) -> list[str]:
    """What a command of ours has noted of a task, which a person should know though it was prepared."""
    return [_short(line[len("note: ") :]) for line in tail(output).splitlines() if line.startswith("note: ")]


def tail(path: Path, start: int = 0) -> str:
    """The end of an output, from a position in the file on."""
    with open(path, "rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - OUTPUT_BYTES))
        return file.read().decode("utf-8", "replace")
