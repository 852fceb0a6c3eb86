"""AIDE's two requests: for plan and code the next of the prepared solutions, for a review what the program's output says."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from helpers.lib.checkout import ROOT
from helpers.serving.transcripts.base import Answer, Request, Transcript

SOLUTIONS = ROOT / "templates" / "replay"
# all solutions call solve() of this module, so it stands at the top of each
COMMON_PART = ROOT / "templates" / "agents" / "common" / "tabular.py"
REVIEW_TOOL = "submit_review"
CODE_IS_WANTED = "single markdown code block"  # in AIDE's prompts for code
LOWER_IS_BETTER = {"rmse", "mse", "mae", "rmsle", "log_loss"}
# how a solution marks itself, in its plan and in its code: the prompt shows earlier ones, and so tells which comes next
MARK = re.compile(r"replay solution (\d+)")
SCORE = re.compile(r"^Validation score: (\S+) \((\w+)", re.MULTILINE)
FAILURE = re.compile(r"^(Traceback \(most recent call last\)|\w*Error: ).*", re.MULTILINE)


class Aide(Transcript):
    """Answers AIDE. Raises OSError and SyntaxError where a prepared solution can't be read."""

    ASKED = f"AIDE's requests for code and for reviews (the tool {REVIEW_TOOL})"

    def __init__(self) -> None:
        self.solutions = load_solutions()

    def takes(self, request: Request) -> bool:
        if request.tools is None:
            return CODE_IS_WANTED in request.text
        return request.tool_names == [REVIEW_TOOL]

    def answer(self, request: Request) -> Answer:
        if request.tools is None:
            return Answer("code", next_solution(request.text, self.solutions))
        return Answer("review", calls=(("replay", REVIEW_TOOL, review(request.text)),), finish="tool_calls")


def load_solutions(folder: Path = SOLUTIONS, common_part: Path = COMMON_PART) -> list[tuple[str, str]]:
    """The prepared solutions in the order of their names, each as plan and code; raises OSError, SyntaxError."""
    common = without_docstring(common_part.read_text())[1]
    pairs = [without_docstring(path.read_text()) for path in sorted(folder.glob("solution_*.py"))]
    if not pairs:
        raise OSError(f"no solution_*.py in {folder}")
    return [(" ".join(plan.split()), f"{common}\n\n{model}") for plan, model in pairs]


def without_docstring(source: str) -> tuple[str, str]:
    """Docstring and the rest of a module's source."""
    tree = ast.parse(source)
    return ast.get_docstring(tree) or "", "\n".join(source.splitlines()[tree.body[0].end_lineno :]).strip()


def next_solution(prompt: str, solutions: list[tuple[str, str]]) -> str:
    """Plan and code of the solution after the last that the prompt mentions; they start again with another seed."""
    number = max(map(int, MARK.findall(prompt)), default=0) + 1
    plan, code = solutions[(number - 1) % len(solutions)]
    call = (
        f'metric, score = solve("input", "working/submission.csv", make_model, seed={number})\n'
        'direction = "lower" if metric in ("rmse", "log_loss") else "higher"\n'
        'print(f"Validation score: {score:.6f} ({metric}, {direction} is better, 5-fold cross-validation)")'
    )
    return (
        f"This is replay solution {number}. {plan}\n\n```python\n# replay solution {number}\n{code}\n\n\n{call}\n```\n"
    )


def review(prompt: str) -> dict[str, Any]:
    """AIDE's review of a program, read from the execution output in the prompt."""
    output = prompt.rpartition("# Execution output\n")[2]
    failure, scores = FAILURE.search(output), SCORE.findall(output)
    value = as_number(scores[-1][0]) if scores else None
    lower = bool(scores) and scores[-1][1].lower() in LOWER_IS_BETTER
    if failure or value is None:
        summary = f"replay: {failure.group(0) if failure else 'no validation score in the output'}"
        return {"is_bug": True, "summary": summary, "metric": None, "lower_is_better": lower}
    summary = f"replay: the program printed {scores[-1][1]} {value}."
    return {"is_bug": False, "summary": summary, "metric": value, "lower_is_better": lower}


def as_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None  # false for nan too
