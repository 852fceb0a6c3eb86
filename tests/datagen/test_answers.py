"""The file of answers: killed, torn, shared, broken."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers.datagen import InputValidationError
from helpers.datagen.answers import AnswerFile, digest_of

ONE, TWO = digest_of({"m": 1}), digest_of({"m": 2})


def test_a_digest_is_of_what_is_asked_and_not_of_its_spelling() -> None:
    assert digest_of({"a": 1, "b": "ä"}) == digest_of({"b": "ä", "a": 1})
    assert len({digest_of({"a": 1}), digest_of({"a": 2}), digest_of({"a": 1}, 1), digest_of({"a": 1}, 2)}) == 4
    assert ONE == hashlib.sha256(b'{"request":{"m":1}}').hexdigest()


def test_answers_are_there_again(tmp_path: Path) -> None:
    path, long = tmp_path / "new" / "answers.jsonl", "line\nä\ud800 " * 9000
    with AnswerFile(path) as file:
        assert file.get(ONE) is None
        file.add(ONE, long, (3, 4))
        file.add(TWO, "", (1, 0))
        assert (file.get(ONE), file.get(TWO)) == (long, "")
    with AnswerFile(path) as file:
        assert (file.get(ONE), file.get(TWO), len(file)) == (long, "", 2)
    assert [json.loads(line)["completion_tokens"] for line in path.read_text().splitlines()] == [4, 0]


def test_a_torn_line_is_dropped_and_a_broken_one_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path) as file:
        file.add(ONE, "kept", (0, 0))
    whole = path.read_bytes()
    path.write_bytes(b"\0\0\0\n[1]\n" + whole + b'{"digest": "' + TWO.encode()[:20])
    with AnswerFile(path) as file:
        assert (len(file), file.get(ONE), file.get(TWO)) == (1, "kept", None)
        file.add(TWO, "new", (0, 0))
    with AnswerFile(path) as file:
        assert (file.get(ONE), file.get(TWO)) == ("kept", "new")


def test_cut_anywhere_it_keeps_all_whole_answers(tmp_path: Path) -> None:
    path, digests = tmp_path / "answers.jsonl", [digest_of(number) for number in range(3)]
    with AnswerFile(path) as file:
        for digest in digests:
            file.add(digest, "ä", (0, 0))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with AnswerFile(path) as file:
            kept = whole[:length].count(b"\n")
            assert [file.get(digest) for digest in digests] == ["ä"] * kept + [None] * (3 - kept)
        assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:kept])


def test_two_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    program = (
        "import sys; from helpers.datagen.answers import AnswerFile\n"
        "with AnswerFile(sys.argv[1]): print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with (
            pytest.raises(InputValidationError, match="another process adds to these answers just now"),
            AnswerFile(path),
        ):
            pass
        other.kill()
    with AnswerFile(path) as file:  # a lock goes with its owner, however that ends
        assert len(file) == 0


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path) as file:
        threads = [
            threading.Thread(
                target=lambda n: [file.add(digest_of([n, m]), f"{n}-{m} " * 500, (0, 0)) for m in range(20)], args=(n,)
            )
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(file.get(digest_of([n, m])) == f"{n}-{m} " * 500 for n in range(8) for m in range(20))
    assert len(path.read_text().splitlines()) == 160


def test_a_full_disk_leaves_no_part_of_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    program = (
        "import resource, signal, sys; from helpers.datagen.answers import AnswerFile, digest_of\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with AnswerFile(sys.argv[1]) as file:\n"
        "    file.add(digest_of(1), 'kept', (0, 0))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    try: file.add(digest_of(2), 'x' * 9000, (0, 0))\n"
        "    except OSError as error: print(error.filename)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(path)
    assert path.stat().st_size < 4096 and path.read_bytes().endswith(b"\n")
    with AnswerFile(path) as file:
        assert (file.get(digest_of(1)), file.get(digest_of(2))) == ("kept", None)


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    with AnswerFile(tmp_path / "answers.jsonl") as file:
        pass
    before = set(os.listdir("/proc/self/fd"))
    file.add(ONE, "late", (0, 0))
    assert (tmp_path / "answers.jsonl").read_bytes() == b"" and set(os.listdir("/proc/self/fd")) == before
