"""mlebench/grade_helpers.py."""

from mlebench.utils import import_fn


class Grader:
    def __init__(self, name, grade_fn):
        self.name, self.grade_fn = name, import_fn(grade_fn)

    def is_lower_better(self, leaderboard):
        return bool(leaderboard["score"].iloc[0] < leaderboard["score"].iloc[-1])

    def rank_score(self, score, leaderboard):
        best = leaderboard["score"].iloc[0]
        return {"gold_threshold": best, **{f"{medal}_medal": score >= best for medal in ("gold", "silver", "bronze")}}
