"""What is known of one evaluation, and the score that follows from it."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from helpers.tasks.definitions import Task

WEIGHTS = {"outputs": 0.3, "criteria": 0.4, "scores": 0.3}
ENOUGH = 0.6  # overall score of a success


@dataclass
class Verdict:
    """What is known so far of one evaluation."""

    task: Task
    criteria: dict[str, bool] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    feedback: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    custom_metrics: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def decide(self, criterion: str, is_met: bool, reason: str) -> None:
        """Record whether a criterion is met, and why."""
        self.criteria[criterion] = bool(is_met)
        self.feedback.append(f"{criterion}: {'met' if is_met else 'not met'}: {reason}")

    def add(
        self, criteria_met: Any = None, scores: Any = None, feedback: Any = None, custom_metrics: Any = None
    ) -> None:
        """Merge what a subclass found. Raises TypeError, ValueError and AttributeError for what can't be merged."""
        self.criteria |= {str(name): bool(value) for name, value in (criteria_met or {}).items()}
        self.scores |= {str(name): _finite(value) for name, value in (scores or {}).items()}
        self.feedback += [feedback] if isinstance(feedback, str) else [str(line) for line in feedback or []]
        self.custom_metrics |= {str(name): _finite(value) for name, value in (custom_metrics or {}).items()}

    @property
    def _overall(self) -> float:
        parts = {}
        if self.found or self.missing:
            parts["outputs"] = self._output_score
        if self.criteria:
            parts["criteria"] = sum(self.criteria.values()) / len(self.criteria)
        if self.scores:
            clipped = [min(max(value, 0.0), 1.0) for value in self.scores.values()]
            parts["scores"] = self.scores.get("skill", sum(clipped) / len(clipped))
        weight = sum(WEIGHTS[name] for name in parts)
        return sum(WEIGHTS[name] * value for name, value in parts.items()) / weight if weight else 0.0

    @property
    def _output_score(self) -> float:
        wanted = len(self.found) + len(self.missing)
        return len(self.found) / wanted if wanted else 1.0

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON holds it."""
        overall = 0.0 if self.error else self._overall
        checked = {"files_found": self.found, "files_missing": self.missing, "score": round(self._output_score, 4)}
        return {
            "task_id": self.task.id,
            "task_name": self.task.name,
            "task_type": self.task.task_type,
            "evaluation_timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "criteria_met": self.criteria,
            "scores": self.scores,
            "feedback": self.feedback,
            "overall_score": round(overall, 4),
            "success": overall >= ENOUGH and all(self.criteria.values()),
            "output_check": checked,
            **({"custom_metrics": self.custom_metrics} if self.custom_metrics else {}),
            **({"error": self.error} if self.error else {}),
        }


def _finite(value: Any) -> float | int:
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"found {value!r}")
    return value if isinstance(value, int) else float(value)
