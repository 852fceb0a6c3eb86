"""Tasks of questions: right and wrong answers, no way around the expected one, and the pipelines that make them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_tasks import contents
from model_servers import Server, asked, chat, status
from run_tests_of import Place, place

from helpers.datagen import harbor_task, rows
from helpers.datagen.commons import generate_tasks_from_questions
from helpers.datagen.pipelines.questions import generate
from helpers.datagen.pipelines.questions.generate_abstract import Questions
from helpers.datagen.questions import as_tasks
from helpers.datagen.schemas import InputValidationError

ODD = "It's 5 o'clock; $HOME `ls`"


def tried(folder: Path, answer: Any) -> Place:
    made = generate_tasks_from_questions(
        as_tasks([(0, {"question": "?", "answer": answer})]), "q", output_dir=folder / "made"
    )
    assert harbor_task.check(made / "q-0000") == []
    return place(made / "q-0000", folder / "place")


@pytest.mark.parametrize("answer", [42, "Saturday", ODD, "two\nlines", "-n"])
def test_nothing_fails_and_the_solution_passes(tmp_path: Path, answer: Any) -> None:
    task = tried(tmp_path, answer)
    reward, said = task.reward()
    assert reward == 0 and "there is no file" in said
    assert task.bash("solution/solve.sh").returncode == 0
    assert (task.app / "answer.txt").read_text() == f"{answer}\n"
    assert task.reward()[0] == 1


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], bool]:
    """Whether the test would take an answer for another: its functions, in this process."""
    task = tried(tmp_path_factory.mktemp("judge"), "x")
    names: dict[str, Any] = {"__file__": str(task.task / "tests" / "test_state.py")}
    exec((task.task / "tests" / "test_state.py").read_text(), names)

    def passes(given: str, expected: str) -> bool:
        (task.app / "answer.txt").write_text(given)
        (task.task / "tests" / "expected.txt").write_text(expected)
        try:
            names["test_answer"]()
        except AssertionError:
            return False
        return True

    return passes


@pytest.mark.parametrize(
    "given, expected, is_right",
    [
        ("42", "42\n", True),
        ("42.0\n", "42", True),
        (" $1,234.50 ", "1234.5", True),
        ("4.2e1", "42", True),
        ("43", "42", False),
        ("", "42", False),
        ("42 or 43", "42", False),
        ("nan", "42", False),
        ("nan", "NaN", True),  # the same word
        ("infinity", "1e999", False),
        ("1" * 200, "1" * 200, True),
        ("saturday", "Saturday", True),
        ("New  York\n", "new york", True),
        ("Newyork", "new york", False),
        ("straße", "STRASSE", True),
    ],
)
def test_what_counts_as_the_answer(
    judge: Callable[[str, str], bool], given: str, expected: str, is_right: bool
) -> None:
    assert judge(given, expected) is is_right


@pytest.mark.parametrize("kind", ["link", "linked folder", "folder"])
def test_an_answer_that_is_no_file_of_its_own(tmp_path: Path, kind: str) -> None:
    task = tried(tmp_path, "x")
    if kind == "linked folder":
        task.app.rmdir()
        (task.task / "tests" / "answer.txt").write_text("x")
        task.app.symlink_to(task.task / "tests")
    elif kind == "folder":
        (task.app / "answer.txt").mkdir()
    else:
        (task.app / "answer.txt").symlink_to(task.task / "tests" / "expected.txt")
    reward, said = task.reward()
    assert reward == 0 and ("is a link, or lies behind one" in said or kind == "folder")


def test_without_answers_there_are_no_tests(tmp_path: Path) -> None:
    made = generate_tasks_from_questions(
        as_tasks([(4, {"q": "Why? "})], question="q", answer=None, of="x"), "q", output_dir=tmp_path / "made"
    )
    assert (made / "q-0000" / "instruction.md").read_text() == "Why?\n"
    assert json.loads((made / "q-0000" / "metadata.json").read_text()) == {"of": "x", "row": 4}
    assert not (made / "q-0000" / "tests").exists()


@pytest.mark.parametrize(
    "row, said",
    [
        ({"question": "a"}, "row 3: has no column 'answer'; there are: question"),
        ({"question": " ", "answer": 1}, "row 3: question: wants a text or a number, not ' '"),
        ({"question": "a", "answer": None}, "row 3: answer: wants a text or a number, not None"),
        ({"question": "a", "answer": ["b"]}, r"row 3: answer: wants a text or a number, not \['b'\]"),
        ({"question": "a", "answer": "b ####"}, "row 3: no answer is in 'b ####'"),
    ],
)
def test_rows_that_make_no_task(row: dict[str, Any], said: str) -> None:
    with pytest.raises(InputValidationError, match=said):
        list(as_tasks([(3, row)], extract=lambda answer: answer.rpartition("####")[2]))


def test_the_examples_and_the_same_by_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate.main([]) == 0
    assert generate.main([]) == 0, "the same again is no conflict"
    assert Questions().main(["--output-dir", "flags"]) == 0
    assert capsys.readouterr() == ("outputs/tasks/questions\noutputs/tasks/questions\nflags\n", "")
    made = contents(Path("outputs/tasks/questions"))
    assert contents(Path("flags")) == made and len(list(Path("flags").iterdir())) == 12
    assert [harbor_task.check(path) for path in Path("flags").iterdir()] == 12 * [[]]
    assert len({harbor_task.environment_digest(path) for path in Path("flags").iterdir()}) == 1


def test_a_sample_of_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "mine.csv"
    source.write_text("frage,antwort\n" + "".join(f"{number} + 1?,{number + 1}\n" for number in range(50)))
    argv = [
        "--input-dir",
        str(source),
        "--question-column",
        "frage",
        "--sample",
        "5",
        "--limit",
        "2",
        "--dataset-prefix",
        "plus",
    ]
    assert Questions().main([*argv, "--answer_column", "antwort", "--output-dir", str(tmp_path / "out")]) == 0
    made = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in made] == ["plus-0000", "plus-0001"]
    for path in made:
        about = json.loads((path / "metadata.json").read_text())
        assert about["source"] == "mine.csv" and (path / "instruction.md").read_text().startswith(
            f"{about['row']} + 1?\n"
        )
        assert (path / "tests" / "expected.txt").read_text() == f"{about['row'] + 1}\n"
    capsys.readouterr()
    assert Questions().main([*argv, "--output-dir", str(tmp_path / "out2")]) == 2
    assert capsys.readouterr().err.startswith("error: row ") and not (tmp_path / "out2").exists()
    assert Questions().main([*argv, "--answer-column", "", "--output-dir", str(tmp_path / "out2")]) == 0


def test_questions_that_a_model_words_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was ended goes on, without asking twice; the answers stay."""

    def manner(handler: Any, body: Any) -> None:
        handler.reply(200, chat(f"Please: {asked(body).splitlines()[-1]}"))

    argv = ["--sample", "4", "--reword", str(tmp_path / "said.jsonl"), "--output-dir"]
    assert Questions().main([*argv, str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "error: --reword needs a model: name one with --model or --engine\n"
    with Server(manner, manner, manner, status(400), manner) as server:  # the first asks whether the model is there
        (tmp_path / "endpoint.json").write_text(json.dumps({"endpoint_url": server.url, "model_name": "m"}))
        argv = ["--endpoint-json", str(tmp_path / "endpoint.json"), *argv]
        assert Questions().main([*argv, str(tmp_path / "out")]) == 3
        assert "said 400" in capsys.readouterr().err and not (tmp_path / "out").exists()
        assert Questions().main([*argv, str(tmp_path / "out")]) == 0
        said = [asked(body) for _, _, body in server.requests if asked(body).startswith("Word this")]
        asked_before = len(server.requests)
        assert len(said) == 4 + 1 and len(set(said)) == 4, "one is asked again: the one that got no answer"
        assert Questions().main([*argv, str(tmp_path / "again")]) == 0
        assert len(server.requests) - asked_before <= 1
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    plain = {row["question"]: row["answer"] for row in rows.read(generate.SOURCE)}
    for path in (tmp_path / "out").iterdir():
        words = (path / "instruction.md").read_text().splitlines()[0]
        assert (path / "tests" / "expected.txt").read_text() == f"{plain[words.removeprefix('Please: ')]}\n"
