"""Scores a submission in a task's container: python3 -I score_submission.py SUBMISSION REWARD

Beside it lie `task/` (answers.csv, grading.json with the bars) and a copy of this project's grader, `helpers/grading/`. The reward, from
0 to 1, is how far each metric has come from the guess of the sample submission to its bar, the least of them; what is wrong with a file
is told on standard output, and its reward is 0. Needs NumPy and scikit-learn.
"""

import json
import math
import os
import stat
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from helpers.grading.metrics import get_metric
from helpers.grading.own_task import OwnTask
from helpers.grading.report import InvalidSubmission

HERE = Path(__file__).resolve().parent


def reward(path: Path) -> float:
    """The reward of a submission. Raises InvalidSubmission."""
    grader = OwnTask("the task", HERE / "task")
    bars = json.loads((HERE / "task" / "grading.json").read_text(encoding="utf-8"))["bars"]
    with opened(path) as file:
        shares = [share(grader, file, bar) for bar in bars]
    return min(shares)


def opened(path: Path):
    """A submission, open. Raises InvalidSubmission for what isn't a file of its own: a link could lead to the answers."""
    if not os.path.lexists(path):
        raise InvalidSubmission(f"There is no file {path}.")
    if path.resolve() != path:
        raise InvalidSubmission(f"{path} is a link, or lies behind one: it must be a file.")
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise InvalidSubmission(f"{path} is no file.")
    return open(number, "rb")


def share(grader: OwnTask, file, bar: dict) -> float:
    """How far a metric has come from the guess to its bar, from 0 to 1."""
    metric = get_metric(bar["metric"])
    score = metric.score(*grader.parsed(file, metric))
    print(f"{metric.name}: {score:.5g}; a guess has {bar['guess']:.5g}, and the full reward takes {bar['bar']:.5g}")
    if not math.isfinite(score):
        return 0.0
    return min(max((score - bar["guess"]) / (bar["bar"] - bar["guess"]), 0.0), 1.0)


def main(submission: str, target: str) -> int:
    try:
        found = reward(Path(submission))
    except InvalidSubmission as error:
        print(f"The submission is invalid: {error}")
        found = 0.0
    except OSError as error:
        print(f"The submission can't be read: {error}")
        found = 0.0
    Path(target).write_text(f"{round(found, 4):g}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
