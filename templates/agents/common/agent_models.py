"""What agents in Python share of their requests: where a model answers, when to ask again, and what an endpoint said that ended it.

A server of the run that is started again has another address: the file of addresses is read anew for each request.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from threading import Timer
from typing import Any, NamedTuple, TypeVar

from agent_settings import AgentError, Settings, Usage, deadline_of, one_line, read_endpoints

LONGEST_PAUSE = 15.0  # seconds between two tries
LONGEST_ASKED_PAUSE = 120.0  # the same where the server says how long
LONG_WAIT = 300.0  # seconds for one answer before it is told that there is none

# how OpenAI, OpenRouter, DeepSeek, Anthropic and LiteLLM say that no try will help before somebody pays
QUOTA = re.compile(
    r"insufficient.?(quota|balance|credits|funds)|credit balance is too low|billing_|budget.{0,20}exceeded", re.I
)
ADVICE = {
    401: "check its key",
    402: "its quota is used up",
    403: "check its key",
    404: "check its name and address",
}

Said = TypeVar("Said")


class TimeIsOver(Exception):
    """The deadline has come before an answer."""


class TokensUsedUp(Exception):
    """The run's tokens are used up: it asks for no more."""


class Away(Exception):
    """No answer this time; the message says why, asked how many seconds the server wants us to wait, is_busy that it will answer again."""

    def __init__(self, problem: str, asked: float = 0.0, is_busy: bool = False):
        super().__init__(problem)
        self.asked, self.is_busy = asked, is_busy


class AskAgain(Exception):
    """No answer, for a reason that is gone: ask again at once."""


class Endpoint(NamedTuple):
    """Where a role's model answers; certificate: the path of its own, empty for the usual authorities."""

    role: str
    name: str
    url: str
    key: str
    certificate: str

    def __str__(self) -> str:
        return f"{self.role.lower()} model {self.name!r} at {re.sub('//[^/@]*@', '//', self.url)}"


class Endpoints:
    """The models of a run, by role (CODE, FEEDBACK), and the manners with which they are asked."""

    def __init__(self, settings: Settings, usage: Usage, agent: str):
        self.settings, self.usage, self.agent = settings, usage, agent
        self.endpoints = read_endpoints(settings.endpoints_file)
        self.deadline = deadline_of(self.endpoints)
        self._jitter = random.Random()  # not the seeded generator, which may decide an agent's search

    def name(self, role: str) -> str:
        return self.endpoint(role).name

    def refresh(self) -> None:
        """Read the endpoints anew; while the file is being replaced, the last known ones stay."""
        try:
            self.endpoints = read_endpoints(self.settings.endpoints_file)
        except (OSError, ValueError):
            pass

    def endpoint(self, role: str) -> Endpoint:
        """The endpoint of a role, read anew each time: a server that was restarted has another address. Raises AgentError."""
        self.refresh()
        for prefix in (f"AGENT_{role}", "AGENT_CODE"):
            parts = ("MODEL", "BASE_URL", "API_KEY", "CA_FILE")
            name, url, key, certificate = (self.endpoints.get(f"{prefix}_{part}", "") for part in parts)
            if name and url:
                return Endpoint(role, name, url, key or "none", certificate)
        raise AgentError(
            f"AGENT_CODE_MODEL and AGENT_CODE_BASE_URL are not in ENDPOINTS_FILE: {self.agent} needs a model"
        )

    def check_tokens(self) -> None:
        """Raise TokensUsedUp, and note it, where the run has used all of its tokens."""
        limit = self.settings.token_limit
        if 0 < limit <= self.usage.tokens:
            self.tell(f"its {limit} tokens were used up ({self.usage.tokens})")
            raise TokensUsedUp

    def ask(self, role: str, attempt: Callable[[Endpoint, float], tuple[Said, dict[str, int]]]) -> Said:
        """What `attempt` returns, given the endpoint and the seconds that it may take, and noted with its numbers of tokens.

        It is tried again when it raises Away: until the deadline where the server is busy (429, 5xx), for PATIENCE seconds where it is
        away. And at once when it raises AskAgain.
        Raises AgentError when the endpoint stays away, TimeIsOver, and what `attempt` raises beside.
        """
        pause, said, started = 0.25, None, time.time()
        while True:
            left = self.deadline - time.time()
            if left <= 0:
                raise TimeIsOver
            endpoint = self.endpoint(role)
            try:
                with self._waiting(endpoint):
                    answer, counts = attempt(endpoint, min(left, self.settings.request_timeout))
                self.usage.cut_short = None
                self.usage.add(answers=1, **counts)
                return answer
            except AskAgain:
                continue
            except Away as error:
                problem, asked, is_busy = str(error), error.asked, error.is_busy
            given_up = not is_busy and time.time() - started > self.settings.patience
            self.tell(problem + f"; it was tried for {self.settings.patience} s" * given_up)
            if given_up:
                raise AgentError(self.usage.cut_short)
            if said is None:
                said = problem
                print(f"{problem}; trying again", flush=True)
            wait = max(pause * self._jitter.uniform(0.5, 1), min(asked, LONGEST_ASKED_PAUSE))
            time.sleep(max(0, min(wait, self.deadline - time.time())))
            pause = min(pause * 2, LONGEST_PAUSE)

    def refused(self, endpoint: Endpoint, status: int, words: str, is_final: bool, asked: float) -> None:
        """Judge an answer with an error's status: raises Away or AskAgain where a try can help, else AgentError, and notes why.

        is_final: somebody has to pay first; asked: seconds that the server wants us to wait.
        """
        problem = f"{endpoint}: HTTP {status}: {self.masked(words)}"
        if not is_final and (status in (408, 409, 425, 429) or status >= 500):
            raise Away(problem, asked, self._count_busy(status))
        if self.endpoint(endpoint.role) != endpoint:
            raise AskAgain  # the server has moved, and a stranger answered in its place
        self.tell(problem)
        raise AgentError(f"{problem} ({'its quota is used up' if is_final else ADVICE.get(status, 'see models.yaml')})")

    def _count_busy(self, status: int) -> bool:
        """Count an answer that asks to come back later; whether it was one."""
        kind = "rate_limited" if status == 429 else "server_errors" if status >= 500 else None
        if kind:
            self.usage.add(**{kind: 1})
        return kind is not None

    def unreachable(self, endpoint: Endpoint, error: object) -> Away:
        """What to raise where no answer came at all."""
        problem = f"{endpoint}: {self.masked(error)}"
        if "CERTIFICATE_VERIFY_FAILED" in problem:
            problem += " (whoever answers there is not this run's model)"
        return Away(problem)

    def masked(self, text: object) -> str:
        """The text in one line, without this run's keys and tokens."""
        return one_line(self.without_keys(str(text)))

    def without_keys(self, text: str) -> str:
        """The text without this run's keys and tokens."""
        for name, value in self.endpoints.items():
            if name.endswith(("_KEY", "_TOKEN")) and len(value) > 4:
                text = text.replace(value, "***")
        return text

    def tell(self, problem: str) -> None:
        """Note what keeps, or has kept, the agent from going on."""
        self.usage.cut_short = one_line(problem)
        self.usage.add()

    @contextmanager
    def _waiting(self, endpoint: Endpoint) -> Iterator[None]:
        """Have it told when an answer is long in coming, for we may be ended while we wait for it."""
        words = f"{endpoint} has not answered"
        if not self.usage.counts["answers"] and not self.usage.cut_short:
            self.tell(words)
        timer = Timer(LONG_WAIT, self.tell, [f"{words} for {LONG_WAIT:.0f} s"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def no_try_helps(status: int, words: str) -> bool:
    """Whether an error says that somebody has to pay first."""
    return bool(QUOTA.search(words)) or status == 402


def seconds_asked(headers: Any) -> float:
    """How long a busy server asks to wait, 0 where it doesn't say. headers: of its answer. Seconds or a date: RFC 9110, section 10.2.3."""
    said = str(headers.get("retry-after", "0"))
    try:
        seconds = float(said) if said.strip().isdigit() else parsedate_to_datetime(said).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return max(0.0, seconds)


def error_in(body: Any) -> str:
    """The words of an error: of what came in place of an answer, or of the body of a refusal."""
    if isinstance(body, str):
        return one_line(body)
    for key in ("error", "message", "detail", "msg", "object"):
        said = body.get(key) if isinstance(body, dict) else None
        if isinstance(said, dict) and isinstance(said.get("message"), str):
            said = said["message"] + (f" ({said['code']})" if isinstance(said.get("code"), str) else "")
        if said:
            return one_line(said if isinstance(said, str) else json.dumps(said))
    return f"JSON that is no answer: {one_line(json.dumps(body))[:200]}"


def refusal_in(body: str) -> str:
    """The words in the body of an answer with an HTTP status of its own."""
    try:
        return error_in(json.loads(body))
    except (ValueError, RecursionError):
        return one_line(body)
