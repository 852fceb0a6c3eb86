"""AIDE's journal.json as a trajectory: each node of its tree is a step, its program a call, and the program's output what came of it.

The journal (`nodes`, `node2parent`) is as aideml's aide.utils.serialize writes it. It holds neither prompts nor tokens: those of the
whole run are in usage.json.
"""

from __future__ import annotations

from typing import Any

from helpers.lib import values
from helpers.trajectories.atif import Call, Result, Step, Trajectory, known

NAME = "journal.json"
TOOL = "run_program"
INTRODUCTION = "AIDE searches a tree of whole programs: each step is a node. Its prompts are not in its journal."


def trajectory(journal: dict[str, Any], usage: dict[str, Any], agent: str, version: str) -> Trajectory:
    """What a journal tells. usage: the run's usage.json, empty where there is none. Raises ValueError where it is no journal."""
    listed = journal.get("nodes")
    if not isinstance(listed, list):
        raise ValueError("is no journal: it has no list of nodes")
    nodes = [node for node in listed if isinstance(node, dict)]
    made = Trajectory(agent, version, steps=[Step("system", INTRODUCTION)])
    if len(nodes) < len(listed):
        made.notes.append(f"{len(listed) - len(nodes)} entries of the journal are no nodes.")
    parents, numbers, odd = values.section(journal, "node2parent"), dict[str, int](), 0
    for number, node in enumerate(nodes, len(made.steps) + 1):
        name = values.text(node.get("id")) or ""
        parent = values.text(parents.get(name)) if name else None
        # a parent is made before its children: what says otherwise would be a circle
        odd += parent is not None and parent not in numbers
        made.steps.append(_step(node, numbers.get(parent) if parent else None))
        if name:
            numbers.setdefault(name, number)
    if odd:
        made.notes.append(f"{odd} nodes name a parent that doesn't come before them.")
    made.totals = known(
        {f"total_{kind}_tokens": values.count(usage.get(f"{kind}_tokens")) for kind in ("prompt", "completion")}
    )
    return made


def _step(node: dict[str, Any], parent: int | None) -> Step:
    metric = values.section(node, "metric")
    code, output = node.get("code"), node.get("_term_out")
    calls = [Call("program", TOOL, {"code": code})] if isinstance(code, str) else []
    results = [Result(_joined(output), "program", known({"exception": values.text(node.get("exc_type"))}))]
    plan = node.get("plan")
    return Step(
        "agent",
        plan if isinstance(plan, str) else "",
        values.number(node.get("ctime")),
        calls=calls,
        results=results if calls or output else [],
        extra=known(
            {
                "node": values.text(node.get("id")),
                "parent_step_id": parent,
                "metric": values.number(metric.get("value")),
                "is_higher_better": values.flag(metric.get("maximize")),
                "is_buggy": values.flag(node.get("is_buggy")),
                "review": node["analysis"] if isinstance(node.get("analysis"), str) else None,
                "execution_seconds": values.number(node.get("exec_time")),
            }
        ),
    )


def _joined(output: Any) -> str:
    """What a program printed: a list of pieces, or one."""
    if isinstance(output, list):
        return "".join(piece for piece in output if isinstance(piece, str))
    return output if isinstance(output, str) else ""
