"""A competition's grade.py."""


def grade(submission, answers):
    return float((submission["y"] == answers["y"]).mean())
