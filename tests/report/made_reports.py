"""Runs as agents leave them, for tests of the report and for its figures: journals of a few steps, each a change of one before."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

BEGUN = 1767225600 + 120  # when the agents of tests/performance/bench_rounds.py begin
PROGRAM = "\n".join(
    ["import pandas as pd", "from sklearn.ensemble import RandomForestClassifier", ""]
    + [f"column_{number} = frame['c{number}'].fillna({number}).astype(float)" for number in range(40)]
    + ["model = RandomForestClassifier(n_estimators=100)", "print(model.fit(x, y).score(v, w))"]
)


def journal(count: int, seed: int) -> dict[str, Any]:
    """AIDE's journal of `count` steps: drafts, and changes of one before."""
    chance = random.Random(seed)
    nodes, parents = [], {}
    at = BEGUN + 20.0
    for number in range(count):
        buggy = chance.random() < 0.25
        seconds = chance.uniform(5, 90)
        name = f"{seed:08x}{number:08x}"
        code = PROGRAM.replace("=100)", f"={50 + 10 * number}, max_depth={chance.randint(2, 9)})")
        nodes.append(
            {
                "id": name,
                "step": number,
                "ctime": at,
                "exec_time": seconds,
                "code": code,
                "plan": f"Try {number} with deeper trees.",
            }
            | {
                "is_buggy": buggy,
                "exc_type": "ValueError" if buggy else None,
                "analysis": "It ran." if not buggy else "It broke.",
            }
            | {"metric": {"value": None if buggy else 0.6 + chance.random() * 0.3, "maximize": None if buggy else True}}
            | {"_term_out": [f"fold {fold}: {chance.random()}\n" for fold in range(10)], "parent": None, "children": []}
        )
        if number > 2:
            parents[name] = nodes[chance.randrange(number)]["id"]
        at += seconds + chance.uniform(20, 60)
    return {"nodes": nodes, "node2parent": parents, "__version": "2"}


def leave_journals(group: Path, steps: int) -> None:
    """A journal in each run of a round that has begun."""
    for number, run in enumerate(sorted(group.glob("task-*_*"))):
        if (run / "logs").is_dir():
            (run / "logs" / "journal.json").write_text(json.dumps(journal(steps, number)))
            (run / "agent.log").write_text("step 1/5: metric 0.8\n" * 20)


def leave_samples(group: Path, seconds: int = 3700) -> None:
    """Samples of the load of a round's model servers, one every 20 seconds."""
    from helpers.lib.values import seconds_of

    head = "time,requests_running,requests_waiting,prompt_tokens_total,generation_tokens_total,gpu_utilisation\n"
    for number, path in enumerate(sorted((group / "services").glob("vllm_*.json"))):
        start = seconds_of(json.loads(path.read_text())["started_at"])
        chance, lines = random.Random(number), [head]
        for step in range(60, seconds, 20):
            busy = chance.random() < 0.7
            clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start + step))
            lines.append(
                f"{clock},{4 if busy else 0},{1 if busy else 0},{step * 100},{step * 30},{80 if busy else 0}\n"
            )
        path.with_name(path.stem + ".load.csv").write_text("".join(lines))
