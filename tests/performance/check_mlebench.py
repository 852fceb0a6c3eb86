"""Compare helpers/grading/graders.py with mle-bench's own validate_submission and grade_csv, on valid and broken submissions.

Run by hand, with a Python that has requirements/core.txt and mle-bench's small install (it installs nothing):
  python tests/performance/check_mlebench.py --mlebench DIR      DIR: a clone of github.com/openai/mle-bench
Prints one line for each competition and each difference; exits 1 on a difference.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def spaceship(folder: Path, competition) -> None:
    """Make synthetic raw data and let the competition's own prepare function split it."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    count = 8693
    raw = pd.DataFrame({"PassengerId": [f"{number // 3 + 1:04d}_{number % 3 + 1:02d}" for number in range(count)]})
    raw["Age"] = rng.integers(0, 80, count)
    raw["Transported"] = rng.random(count) < raw["Age"] / 80
    for name in ("raw", "prepared/public", "prepared/private"):
        (folder / name).mkdir(parents=True)
    raw.to_csv(folder / "raw" / "train.csv", index=False)
    competition.prepare_fn(folder / "raw", folder / "prepared" / "public", folder / "prepared" / "private")


def columns(**values):
    """Make a preparer that writes private/test.csv with a column of 200 ids and one of answers."""

    def prepare(folder: Path, competition) -> None:
        import numpy as np
        import pandas as pd

        rng = np.random.default_rng(1)
        (id_column, ids), (target, answers) = [(name, make(rng)) for name, make in values.items()]
        (folder / "prepared" / "private").mkdir(parents=True)
        frame = pd.DataFrame({id_column: ids, target: answers})
        frame.to_csv(folder / "prepared" / "private" / "test.csv", index=False)

    return prepare


COMPETITIONS = {
    "spaceship-titanic": (spaceship, "PassengerId", "Transported"),
    "tabular-playground-series-may-2022": (
        columns(id=lambda rng: rng.permutation(200), target=lambda rng: rng.integers(0, 2, 200)),
        "id",
        "target",
    ),
    "new-york-city-taxi-fare-prediction": (
        columns(
            key=lambda rng: [f"k{number}" for number in rng.permutation(200)], fare_amount=lambda rng: rng.random(200)
        ),
        "key",
        "fare_amount",
    ),
}


def submissions(answers, id_column: str, target: str) -> dict[str, bytes]:
    """Make submissions by name: good ones, and one for each way to be broken."""
    import pandas as pd

    good = answers[[id_column, target]]

    def changed(column: str, value) -> bytes:
        frame = good.astype(object).copy()
        frame.loc[frame.index[3], column] = value
        return frame.to_csv(index=False).encode()

    def every(value) -> bytes:
        return good.assign(**{target: value}).to_csv(index=False).encode()

    text = good.to_csv(index=False)
    return {
        "perfect": text.encode(),
        "shuffled": good.sample(frac=1, random_state=0).to_csv(index=False).encode(),
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "windows line ends": text.replace("\n", "\r\n").encode(),
        "extra column": good.assign(extra=1).to_csv(index=False).encode(),
        "swapped columns": good[[target, id_column]].to_csv(index=False).encode(),
        "constant 0": every(0),
        "constant 0.5": every(0.5),
        "constant False": every(False),
        "words": every("no"),
        "one word": changed(target, "no"),
        "one empty": changed(target, None),
        "all empty": every(None),
        "infinite": changed(target, float("inf")),
        "negative": changed(target, -1),
        "huge": changed(target, 1e300),
        "wrong id": changed(id_column, "nobody"),
        "empty id": changed(id_column, None),
        "duplicate id": changed(id_column, good[id_column].iloc[0]),
        "doubled": pd.concat([good, good]).to_csv(index=False).encode(),
        "short": good.iloc[1:].to_csv(index=False).encode(),
        "one row more": pd.concat([good, good.iloc[:1]]).to_csv(index=False).encode(),
        "header only": good.iloc[:0].to_csv(index=False).encode(),
        "no header": good.to_csv(index=False, header=False).encode(),
        "no id column": good.drop(columns=id_column).to_csv(index=False).encode(),
        "no target column": good.drop(columns=target).to_csv(index=False).encode(),
        "other name": good.rename(columns={target: "answer"}).to_csv(index=False).encode(),
        "upper case": text.upper().encode(),
        "semicolons": text.replace(",", ";").encode(),
        "ragged": (text + "1,2,3,4\n").encode(),
        "truncated": text.encode()[: len(text) // 2],
        "open quote": (text + '"').encode(),
        "empty": b"",
        "blank lines": b"\n\n\n",
        "binary": bytes(range(256)) * 20,
        "zeros": bytes(5000),
        "utf-16": text.encode("utf-16"),
        "json": b'{"id": [1, 2, 3]}',
        "html": b"<html><body>404, not found</body></html>",
    }


def ours_and_theirs(path: Path, grader, competition, with_leaderboard: bool) -> list[tuple[str, object, object]]:
    """Ask both for a verdict and a report. Returns (what, ours, theirs)."""
    from mlebench.grade import grade_csv, validate_submission

    theirs = validate_submission(path, competition)
    pairs = [("validate(path)", grader.validate(path), theirs)]
    if path.is_file() and path.suffix == ".csv":
        with open(path, "rb") as file:
            pairs.append(("validate(file)", grader.validate(file), theirs))
    report = grader.grade(path)
    shape = (report.pop("total_score") == report["score"], bool(report.pop("note", "")), bool(report.pop("created_at")))
    if with_leaderboard:
        try:
            expected = grade_csv(path, competition).to_dict()
        except Exception:  # mle-bench's grade_csv dies of a file that pandas can't read; ours reports it as invalid
            return pairs + [("grade", (report["score"], report["valid_submission"]), (None, False))]
        expected.pop("created_at")
        pairs += [
            ("grade", repr(report), repr({key: expected[key] for key in report})),
            ("keys", set(report), set(expected)),
        ]
        pairs.append(("score, note, time", shape, (True, expected["score"] is None, True)))
    else:
        blank = (report["gold_threshold"], report["any_medal"], shape)
        pairs.append(("grade without leaderboard", blank, (None, False, (True, True, True))))
        valid = theirs[0]
        pairs.append(
            ("valid without leaderboard", (report["valid_submission"], report["score"] is not None), (valid, valid))
        )
    return pairs


def check(name: str, data: Path, with_leaderboard: bool) -> int:
    """Compare all submissions of one competition. Returns the number of differences."""
    from mlebench.registry import registry

    from helpers.grading.graders import load

    prepare, id_column, target = COMPETITIONS[name]
    competition = registry.set_data_dir(data).get_competition(name)
    if not (data / name).exists():
        prepare(data / name, competition)
    grader = load(name, data)
    import pandas as pd

    answers = pd.read_csv(competition.answers, float_precision="round_trip")
    files = {"missing": data / "missing.csv", "other suffix": data / "submission.txt"}
    files["other suffix"].write_text("a,b\n1,2\n")
    for number, (label, content) in enumerate(submissions(answers, id_column, target).items()):
        files[label] = data / f"{number}.csv"
        files[label].write_bytes(content)
    differences = valid = 0
    for label, path in files.items():
        valid += grader.validate(path)[0]
        for what, ours, theirs in ours_and_theirs(path, grader, competition, with_leaderboard):
            if ours != theirs:
                differences += 1
                print(f"DIFFERENT {name}: {label}: {what}\n  ours   {ours}\n  theirs {theirs}")
    leaderboard = "with a leaderboard" if with_leaderboard else "leaderboard a git-LFS pointer"
    print(f"{name}, {leaderboard}: {len(files)} submissions, {valid} valid, {differences} differences")
    return differences


def check_vandal(data: Path) -> int:
    """Let a competition's grader change what it is given. Returns the number of differences."""
    from helpers.grading.graders import load

    name = "spaceship-titanic"
    grader, answers = load(name, data), data / name / "prepared" / "private" / "test.csv"
    before, original = grader.grade(answers)["score"], grader._competition.grader.grade_fn

    def vandal(submission, truth):
        score = original(submission, truth)
        truth["Transported"] = ~truth["Transported"]
        truth.sort_values("PassengerId", inplace=True)
        truth.drop(truth.index[:5], inplace=True)
        return score

    grader._competition.grader.grade_fn = vandal
    after = [grader.grade(answers)["score"] for _ in range(3)]
    differences = sum(score != before for score in after)
    print(f"{name}, a grader that changes the answers: {differences} differences")
    return differences


def set_leaderboards(folder: Path, real: bool) -> None:
    """Let every competition have a made-up leaderboard, or a git-LFS pointer in its place."""
    import mlebench.registry

    path = folder / f"leaderboard_{real}.csv"
    scores = "score\n" + "".join(f"{1 - number / 1000}\n" for number in range(1200))
    path.write_text(scores if real else "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    original = getattr(mlebench.registry.Registry, "original", mlebench.registry.Registry.get_competition)
    mlebench.registry.Registry.original = original
    mlebench.registry.Registry.get_competition = lambda self, name: dataclasses.replace(
        original(self, name), leaderboard=path
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlebench", required=True, metavar="DIR", help="a clone of mle-bench")
    arguments = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(Path(arguments.mlebench).resolve())]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # mlebench makes ./cache
        try:
            import mlebench.grade  # noqa: F401
        except ImportError as error:
            print(f"check_mlebench: can't import mlebench with {sys.executable}: {error}", file=sys.stderr)
            return 2
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        differences = 0
        for real in (True, False):
            set_leaderboards(Path(folder), real)
            differences += sum(check(name, Path(folder) / "data", real) for name in COMPETITIONS)
        differences += check_vandal(Path(folder) / "data")
        os.chdir("/proc")  # a folder in which nothing can be made
        differences += check("spaceship-titanic", Path(folder) / "data", False)
        os.chdir("/")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
