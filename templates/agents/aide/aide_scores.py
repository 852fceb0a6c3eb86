"""What a program printed of its own score: the judge of a step whose review can't be read."""

import math
import re

from aide_answers import NUMBER

LONGEST_LINE = 500  # characters of a line that are looked at

LOWER = r"rmsle|rmse|smape|mape|wmae|mae|mse|log[ _-]?loss|cross[ _-]?entropy|loss|error|deviance|brier\w*|crps|pinball|perplexity|wer|cer"
HIGHER = (
    r"roc|auc|auroc|accuracy|acc|f1|f[ _-]?beta|precision|recall|r2|r²|r\^2|kappa|qwk|mcc|corr\w*|spearman\w*|pearson\w*"
    r"|map|ndcg|dice|iou|jaccard|silhouette|likelihood"
)
OTHER = r"score|metric|cv|validation|val|hold[ _-]?out|oof"
_NAME = rf"(?<![A-Za-z])(?:{LOWER}|{HIGHER}|{OTHER})(?![A-Za-z])"
SCORE = re.compile(rf"{_NAME}(?:[^:=\n]{{0,80}}[:=]\s*|\s+)({NUMBER.pattern}|nan|-?inf)(?![A-Za-z])", re.I)
OF_ALL = re.compile(r"valid|\bval\b|cv|cross|oof|out.of.fold|hold.?out|mean|average|overall|final|best", re.I)
OF_TRAINING = re.compile(r"\btrain", re.I)
MINIMISED = re.compile(rf"(?<![A-Za-z])(?:{LOWER})(?![A-Za-z])", re.I)
MAXIMISED = re.compile(rf"(?<![A-Za-z])(?:{HIGHER})(?![A-Za-z])", re.I)


def printed_score(output: str) -> tuple[float, str] | None:
    """The last score in a program's output and its line; one of validation goes before others, one of training is none."""
    last = None
    for line in reversed(output.splitlines()):
        match = SCORE.search(line[:LONGEST_LINE])
        if not match or (OF_TRAINING.search(line) and not OF_ALL.search(line)):
            continue
        found = float(match[1]), line[:LONGEST_LINE].strip()
        last = last or found
        if OF_ALL.search(line):
            last = found
            break
    return last if last and math.isfinite(last[0]) else None


def lower_is_better(*texts: str) -> bool:
    """Whether a metric is to be minimised, by the first text that says so or names one that is known."""
    for text in texts:
        if said := re.search(r"(lower|smaller|higher|larger|greater) is better|(minimi[sz]|maximi[sz])e", text, re.I):
            return said[0].lower().startswith(("lower", "smaller", "minimi"))
        low, high = MINIMISED.search(text), MAXIMISED.search(text)
        if low or high:
            return bool(low) and not (high and high.start() < low.start())
    return False
