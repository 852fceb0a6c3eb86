"""Requests of AIDE to its models, in place of AIDE's own backends.

AIDE picks the company by the model's name, retries for ever and sets no timeout. Here each role, CODE and FEEDBACK, has
an OpenAI-compatible endpoint of its own with any served name, and no request outlives the deadline. One POST is all that is
asked of it, so it is httpx that asks: the client named openai, made of it, was two fifths of AIDE's start.
"""

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from threading import Timer
from typing import NamedTuple

import httpx2 as httpx
from aide.backend.utils import FunctionSpec, PromptType, compile_prompt_to_md
from aide_answers import (
    NO_TOOLS,
    QUOTA,
    TOO_LONG,
    Answer,
    NoAnswer,
    Unreadable,
    answer_in,
    one_line,
    printable,
    program_text,
    refusal_in,
    review_in,
)
from aide_scores import lower_is_better, printed_score
from aide_settings import AgentError, Settings, Usage, deadline_of, read_endpoints
from post_submission import pinned

LONGEST_PAUSE = 15.0  # seconds between two tries
LONGEST_ASKED_PAUSE = 120.0  # the same where the server says how long
LONG_WAIT = 300.0  # seconds for one answer before it is told that there is none
SHORTEST_PROMPT = 1000  # characters
SHORTEST_ANSWER = 1000  # tokens; an answer cut off before had no room left by its prompt
EXPENDABLE = {
    "Memory": 4,
    "Data Overview": 2,
    "Execution output": 2,
}  # parts of a prompt that are shortened before others
AS_TEXT = """
# Form of the answer

Answer with one JSON object and nothing else:
{"is_bug": true or false, "summary": "...", "metric": a number or null, "lower_is_better": true or false}
"""


class TimeIsOver(Exception):
    """The deadline has come before an answer."""


class TokensUsedUp(Exception):
    """The run's tokens are used up: it asks for no more programs."""


class PromptTooLong(Exception):
    """The model's context is too short for the prompt."""


class Endpoint(NamedTuple):
    """Where a role's model answers; certificate: the path of its own, empty for the usual authorities."""

    role: str
    name: str
    url: str
    key: str
    certificate: str

    def __str__(self) -> str:
        return f"{self.role.lower()} model {self.name!r} at {re.sub('//[^/@]*@', '//', self.url)}"


class Models:
    """Answers AIDE's two kinds of request: plan and code as text, reviews as a call of the tool submit_review."""

    def __init__(self, settings: Settings, usage: Usage):
        self.settings = settings
        self.usage = usage
        self.endpoints = read_endpoints(settings.endpoints_file)
        self.deadline = deadline_of(self.endpoints)
        self._clients: dict[Endpoint, httpx.Client] = {}
        self._no_temperature: set[str] = set()
        self._no_tools: set[str] = set()  # models that are asked for a review as text
        self._room: dict[
            str, int
        ] = {}  # characters that a model's prompt may have, learnt when it refused a longer one
        self._jitter = random.Random()  # not the seeded generator, which decides AIDE's search

    def query(
        self,
        system_message: PromptType | None,
        user_message: PromptType | None = None,
        model: str = "",
        temperature: float | None = None,
        func_spec: FunctionSpec | None = None,
        **_,
    ) -> str | dict:
        """Stand in for aide.backend.query: plan and code, or with `func_spec` the arguments of a well-formed review.

        Raises AgentError when the endpoint refuses for good or stays away, TimeIsOver, and for code PromptTooLong and TokensUsedUp: a
        program that was written is still run and reviewed.
        """
        prompt = system_message or user_message or ""
        if func_spec is None:
            limit = self.settings.token_limit
            if 0 < limit <= self.usage.tokens:
                self._tell(f"its {limit} tokens were used up ({self.usage.tokens})")
                raise TokensUsedUp
            return program_text(self._fitting("CODE", prompt, {"temperature": temperature}))
        try:
            review = review_in(self._review(prompt, func_spec, temperature))
            reason = "it names no metric"
        except (Unreadable, PromptTooLong) as error:
            review, reason = None, str(error)
        return settled(review, reason, prompt if isinstance(prompt, dict) else {})

    def name(self, role: str) -> str:
        return self._endpoint(role).name

    def refresh(self) -> None:
        """Read the endpoints anew; while the file is being replaced, the last known ones stay."""
        try:
            self.endpoints = read_endpoints(self.settings.endpoints_file)
        except (OSError, ValueError):
            pass

    def _review(self, prompt: PromptType, spec: FunctionSpec, temperature: float | None) -> Answer:
        name = self.name("FEEDBACK")
        request = {"temperature": temperature}
        if name not in self._no_tools:
            request |= {"tools": [spec.as_openai_tool_dict], "tool_choice": spec.openai_tool_choice_dict}
        answer = self._fitting("FEEDBACK", prompt, request)
        if "tools" in request and not (answer.calls or answer.cut) and name not in self._no_tools:
            print(f"feedback model {name!r} doesn't call tools: reviews are asked for as text", flush=True)
            self._no_tools.add(name)
        return answer

    def _fitting(self, role: str, prompt: PromptType, request: dict) -> Answer:
        """Ask, with as much of the prompt as the model's context holds. Raises PromptTooLong when that is next to nothing."""
        while True:
            name = self.name(role)
            text = printable(compile_prompt_to_md(shortened(prompt, self._room.get(name))))
            room = int(min(len(text), self._room.get(name, len(text))) * 0.6)
            try:
                answer = self._ask(role, text, request)
                if not answer.cut or answer.completion_tokens >= SHORTEST_ANSWER or room < SHORTEST_PROMPT:
                    return answer
                problem = f"an answer cut off after {answer.completion_tokens} tokens"
            except PromptTooLong as error:
                problem = str(error)
                if room < SHORTEST_PROMPT:
                    raise
            self._room[name] = room
            print(f"{problem}; prompts get {room} characters", flush=True)

    def _ask(self, role: str, prompt: str, request: dict) -> Answer:
        """The model's answer; tries again until the deadline where a server is busy (429, 5xx), for PATIENCE seconds where it is away."""
        pause, said, started = 0.25, None, time.time()
        while True:
            left = self.deadline - time.time()
            if left <= 0:
                raise TimeIsOver
            endpoint, asked, is_busy = self._endpoint(role), 0.0, False
            try:
                with self._waiting(endpoint):
                    answer = self._request(endpoint, prompt, request, min(left, self.settings.request_timeout))
                counts = {name: getattr(answer, name) for name in ("prompt_tokens", "completion_tokens")}
                self.usage.cut_short = None
                self.usage.add(answers=1, **counts)
                return answer
            except NoAnswer as error:
                if is_too_long(200, str(error)):
                    raise PromptTooLong(f"{endpoint}: {self._masked(error)}") from None
                problem = f"{endpoint} answers with {self._masked(error)}"
            except httpx.HTTPStatusError as error:
                problem, asked = self._judge(error, endpoint), seconds_asked(error)
                is_busy = problem is not None and self._count_busy(error.response.status_code)
            except (
                httpx.HTTPError,
                httpx.InvalidURL,
                OSError,
                ValueError,
            ) as error:  # timeouts too, and a certificate that isn't there
                self._clients.pop(endpoint, None)
                problem = f"{endpoint}: {self._masked(error)}"
                if "CERTIFICATE_VERIFY_FAILED" in problem:
                    problem += " (whoever answers there is not this run's model)"
            if problem is None:
                continue
            given_up = not is_busy and time.time() - started > self.settings.patience
            self._tell(problem + f"; it was tried for {self.settings.patience} s" * given_up)
            if given_up:
                raise AgentError(self.usage.cut_short)
            if said is None:
                said = problem
                print(f"{problem}; trying again", flush=True)
            wait = max(pause * self._jitter.uniform(0.5, 1), min(asked, LONGEST_ASKED_PAUSE))
            time.sleep(max(0, min(wait, self.deadline - time.time())))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _request(self, endpoint: Endpoint, prompt: str, request: dict, timeout: float) -> Answer:
        """Send one request. Raises NoAnswer, and what the client raises."""
        options = {key: value for key, value in request.items() if value is not None}
        if endpoint.name in self._no_temperature:
            options.pop("temperature", None)
        if endpoint.name in self._no_tools and options.pop("tools", None):
            del options["tool_choice"]
        if endpoint.name in self._no_tools and endpoint.role == "FEEDBACK":
            prompt += AS_TEXT
        self.usage.add(requests=1)
        # as a user's message: chat templates refuse a system's alone (Qwen, Mistral), or any (Gemma)
        response = self._client(endpoint).post(
            f"{endpoint.url.rstrip('/')}/chat/completions",
            json={"model": endpoint.name, "messages": [{"role": "user", "content": prompt}], **options},
            timeout=timeout,
        )
        response.raise_for_status()
        return answer_in(response.text)

    @contextmanager
    def _waiting(self, endpoint: Endpoint) -> Iterator[None]:
        """Have it told when an answer is long in coming, for we may be ended while we wait for it."""
        words = f"{endpoint} has not answered"
        if not self.usage.counts["answers"] and not self.usage.cut_short:
            self._tell(words)
        timer = Timer(LONG_WAIT, self._tell, [f"{words} for {LONG_WAIT:.0f} s"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _tell(self, problem: str) -> None:
        self.usage.cut_short = one_line(problem)
        self.usage.add()

    def _endpoint(self, role: str) -> Endpoint:
        """The endpoint of a role, read anew each time: a server that was restarted has another address."""
        self.refresh()
        for prefix in (f"AGENT_{role}", "AGENT_CODE"):
            parts = ("MODEL", "BASE_URL", "API_KEY", "CA_FILE")
            name, url, key, certificate = (self.endpoints.get(f"{prefix}_{part}", "") for part in parts)
            if name and url:
                return Endpoint(role, name, url, key or "none", certificate)
        raise AgentError("AGENT_CODE_MODEL and AGENT_CODE_BASE_URL are not in ENDPOINTS_FILE: AIDE needs a model")

    def _client(self, endpoint: Endpoint) -> httpx.Client:
        if endpoint not in self._clients:
            # a server of the run itself is reached directly, and nobody else is trusted in its place
            own = {"verify": pinned(endpoint.certificate), "trust_env": False} if endpoint.certificate else {}
            headers = {"Authorization": f"Bearer {endpoint.key}"}
            self._clients[endpoint] = httpx.Client(headers=headers, follow_redirects=True, **own)
        return self._clients[endpoint]

    def _masked(self, text: object) -> str:
        """The text in one line, without this run's keys and tokens."""
        line = str(text)
        for name, value in self.endpoints.items():
            if name.endswith(("_KEY", "_TOKEN")) and len(value) > 4:
                line = line.replace(value, "***")
        return one_line(line)

    def _judge(self, error: httpx.HTTPStatusError, endpoint: Endpoint) -> str | None:
        """Why to try again later, or None to try again at once; raises when no try can help."""
        text, status, name = error.response.text[:20_000], error.response.status_code, endpoint.name
        problem = f"{endpoint}: HTTP {status}: {self._masked(refusal_in(text))}"
        final = bool(QUOTA.search(text)) or status == 402
        if is_too_long(status, text) and not final:
            raise PromptTooLong(problem)
        if status in (400, 404, 405, 422, 500, 501) and NO_TOOLS.search(text) and self._without_tools(endpoint):
            return None
        if status in (400, 422) and "temperature" in text and name not in self._no_temperature:
            self._no_temperature.add(name)  # reasoning models take none
            return None
        if not final and (status in (408, 409, 425, 429) or status >= 500):
            return problem
        if self._endpoint(endpoint.role) != endpoint:
            return None  # the server has moved, and a stranger answered in its place
        advice = {
            401: "check its key",
            402: "its quota is used up",
            403: "check its key",
            404: "check its name and address",
        }
        self._tell(problem)
        raise AgentError(f"{problem} ({'its quota is used up' if final else advice.get(status, 'see models.yaml')})")

    def _count_busy(self, status: int) -> bool:
        """Count an answer that asks to come back later; whether it was one."""
        kind = "rate_limited" if status == 429 else "server_errors" if status >= 500 else None
        if kind:
            self.usage.add(**{kind: 1})
        return kind is not None

    def _without_tools(self, endpoint: Endpoint) -> bool:
        """Ask this model for reviews as text from now on; False when that is done already."""
        if endpoint.role != "FEEDBACK" or endpoint.name in self._no_tools:
            return False
        self._no_tools.add(endpoint.name)
        return True


def shortened(prompt: PromptType, room: int | None) -> PromptType:
    """The prompt with at most `room` characters: the middle of its longest parts is left out, of the expendable ones first."""
    if not isinstance(prompt, dict):
        return prompt if room is None else without_middle(str(prompt), room)
    prompt = dict(prompt)
    while room is not None and (over := len(compile_prompt_to_md(prompt)) - room) > 0:
        texts = {key: value for key, value in prompt.items() if isinstance(value, str)}
        nested = {key: value for key, value in prompt.items() if isinstance(value, dict)}
        sizes = {key: len(value) for key, value in texts.items()}
        sizes |= {key: len(compile_prompt_to_md(value)) for key, value in nested.items() if key != "Instructions"}
        longest = max(sizes, key=lambda key: sizes[key] * EXPENDABLE.get(key, 1), default="")
        if sizes.get(longest, 0) < 400:
            break
        size = max(300, sizes[longest] - over - 100, sizes[longest] // 2)
        text = texts.get(longest) or compile_prompt_to_md(nested[longest], 2)
        prompt[longest] = without_middle(text, size)
    return prompt


def without_middle(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    half = max(0, size - 60) // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[len(text) - half :]}"


def settled(review: dict | None, reason: str, prompt: dict) -> dict:
    """A review as AIDE needs it. One without a metric is made of what the program printed, where it printed a score."""
    output, task = str(prompt.get("Execution output", "")), str(prompt.get("Task description", ""))
    if review and review["is_bug"]:
        return review | {"metric": None, "lower_is_better": bool(review["lower_is_better"])}
    printed = printed_score(output)
    line = printed[1] if printed else ""
    if review is None or review["metric"] is None:
        summary = f"The review could not be read: {reason}."
        if printed is None:
            return {"is_bug": True, "summary": summary, "metric": None, "lower_is_better": False}
        summary += f" Judged by what the program printed: {line!r}."
        review = {"is_bug": False, "summary": summary, "metric": printed[0], "lower_is_better": None}
    if review["lower_is_better"] is None:
        review["lower_is_better"] = lower_is_better(line, review["summary"], task)
    return review


def is_too_long(status: int, words: str) -> bool:
    """Whether an error says that the prompt is longer than the model's context, or than a request may be."""
    if status in (400, 422):
        return bool(TOO_LONG.search(words))
    if status == 429:  # a limit on tokens a minute that this request alone exceeds
        return "request too large" in words.lower()
    about_prompts = re.search("context|prompt|token|input", words, re.I)
    return status == 413 or (status in (200, 424, 500) and bool(about_prompts and TOO_LONG.search(words)))


def seconds_asked(error: httpx.HTTPStatusError) -> float:
    """How long a busy server asks to wait, 0 where it doesn't say. Seconds or a date: RFC 9110, section 10.2.3."""
    said = error.response.headers.get("retry-after", "0")
    try:
        seconds = float(said) if said.strip().isdigit() else parsedate_to_datetime(said).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, seconds)
