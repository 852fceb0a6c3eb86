"""Who may ask the grading server for what. In the server's container."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from helpers.serving.server import Rejected

RUN_NAME = r"[A-Za-z0-9._:-]{1,128}"


@dataclass(frozen=True)
class Caller:
    """Who sent a request: whether it may do all, and the run that its token was made for."""

    is_admin: bool
    run: str | None = None


class Tokens:
    """The agents' token, the host's, and those of runs: RUN.CODE, where the code is an HMAC with the host's as key.

    Nothing is kept, so all processes and a server that was started again agree.
    """

    def __init__(self, token: str | None, admin_token: str | None) -> None:
        self.token, self.admin_token = token, admin_token

    def issue(self, run: str) -> str:
        """Make the token of a run. Raises Rejected where the run's name is none, or no tokens are asked for."""
        if not self.admin_token:
            raise Rejected(400, "this server asks for no tokens, so it makes none")
        if not re.fullmatch(RUN_NAME, run):
            raise Rejected(400, "say which run, in the form field `run`: 1 to 128 letters, digits and . _ : -")
        code = hmac.new(self.admin_token.encode(), b"run " + run.encode(), hashlib.sha256).hexdigest()
        return f"{run}.{code}"

    def caller(self, authorization: str) -> Caller:
        """Say whose token a header holds. Raises Rejected where it is nobody's."""
        if not self.admin_token:
            return Caller(is_admin=True)
        given = authorization.removeprefix("Bearer ").strip()
        if _is_same(given, self.admin_token):
            return Caller(is_admin=True)
        if self.token and _is_same(given, self.token):
            return Caller(is_admin=False)
        run = given.rpartition(".")[0]
        if re.fullmatch(RUN_NAME, run) and _is_same(given, self.issue(run)):
            return Caller(is_admin=False, run=run)
        raise Rejected(401, "a valid token is needed: send the header `Authorization: Bearer TOKEN`")


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
