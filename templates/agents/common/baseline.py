"""The baseline agent: one scikit-learn model on the public data, no language model.

Usage: baseline.py (no arguments; reads DATA_DIR, SUBMISSION_DIR, LOGS_DIR, CODE_DIR and SEED)
Writes the submission, usage.json and a journal.json of one step in AIDE's format. Exit code: 0, or 1 with one line on
stderr.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path


def main() -> int:
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0
    data, submissions, logs, code = (Path(os.environ[f"{name}_DIR"]) for name in ("DATA", "SUBMISSION", "LOGS", "CODE"))
    missing = [name for name in ("train.csv", "test.csv", "sample_submission.csv") if not (data / name).is_file()]
    if missing:
        print(f"baseline: only for tabular tasks: {data} has no {', '.join(missing)}", file=sys.stderr)
        return 1
    for name in ("baseline.py", "tabular.py"):
        shutil.copyfile(Path(__file__).with_name(name), code / name)
    started = time.time()
    try:
        from tabular import solve

        temporary = submissions / ".submission.csv.new"
        metric, score = solve(data, temporary, make_model, int(os.environ.get("SEED") or 0))
        os.replace(temporary, submissions / "submission.csv")
    except Exception as error:
        print(f"baseline: this task's data doesn't suit it: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"step 1/1: {metric} {score:.5g} in cross-validation, {time.time() - started:.1f} s")
    write_logs(logs, metric, score, started)
    return 0


def make_model(classify: bool, seed: int):
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    forest = RandomForestClassifier if classify else RandomForestRegressor
    return forest(n_estimators=100, min_samples_leaf=2, n_jobs=1, random_state=seed)


def write_logs(logs: Path, metric: str, score: float, started: float) -> None:
    node = {
        "step": 0,
        "id": "baseline",
        "ctime": started,
        "plan": "A random forest on all usable columns, no model asked.",
        "code": Path(__file__).read_text(),
        "exec_time": time.time() - started,
        "exc_type": None,
        "analysis": f"{metric} in cross-validation",
        "metric": {"value": score, "maximize": metric not in ("rmse", "log_loss")},
        "is_buggy": False,
    }
    counts = ("requests", "answers", "rate_limited", "server_errors", "prompt_tokens", "completion_tokens")
    usage = {"steps": 1, **dict.fromkeys(counts, 0), "cut_short": None}
    journal = {"nodes": [node], "node2parent": {}, "__version": "2"}
    for name, content in (("usage.json", usage), ("journal.json", journal)):
        temporary = logs / f".{name}.new"
        temporary.write_text(json.dumps(content) + "\n")
        os.replace(temporary, logs / name)


if __name__ == "__main__":
    sys.exit(main())
