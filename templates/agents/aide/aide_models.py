"""Requests of AIDE to its models, in place of AIDE's own backends.

AIDE picks the company by the model's name, retries for ever and sets no timeout. Here each role, CODE and FEEDBACK, has
an OpenAI-compatible endpoint of its own with any served name, and no request outlives the deadline.
"""

import json
import math
import random
import re
import time
from typing import NamedTuple

import openai
from aide.backend.utils import FunctionSpec, PromptType, compile_prompt_to_md, opt_messages_to_list
from aide_settings import AgentError, Settings, Usage, deadline_of, read_endpoints
from post_submission import pinned

# how OpenAI, vLLM and Gemini word it
TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum.{0,20}(tokens|length)|too (long|many tokens)|max_model_len", re.I
)
LONGEST_PAUSE = 15.0  # seconds between two tries


class TimeIsOver(Exception):
    """The deadline has come before an answer."""


class PromptTooLong(Exception):
    """The model's context is too short for the prompt."""


class Endpoint(NamedTuple):
    """Where a role's model answers; certificate: the path of its own, empty for the usual authorities."""

    name: str
    url: str
    key: str
    certificate: str


class Models:
    """Answers AIDE's two kinds of request: plan and code as text, reviews as a call of the tool submit_review."""

    def __init__(self, settings: Settings, usage: Usage):
        self.settings = settings
        self.usage = usage
        self.endpoints = read_endpoints(settings.endpoints_file)
        self.deadline = deadline_of(self.endpoints)
        self._clients: dict[Endpoint, openai.OpenAI] = {}
        self._no_temperature: set[str] = set()
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
        """Stand in for aide.backend.query: the text, or with `func_spec` the arguments of a well-formed review.

        Raises AgentError when the endpoint refuses for good, TimeIsOver, and for text PromptTooLong.
        """
        texts = [message and printable(compile_prompt_to_md(message)) for message in (system_message, user_message)]
        request = {"messages": opt_messages_to_list(*texts), "temperature": temperature}
        if func_spec is None:
            message = self._ask("CODE", request)
            return printable(getattr(message, "content", None) or "")
        request |= {"tools": [func_spec.as_openai_tool_dict], "tool_choice": func_spec.openai_tool_choice_dict}
        try:
            return review_from(self._ask("FEEDBACK", request), func_spec.name)
        except PromptTooLong:
            return failed_review("the prompt is longer than the model's context")

    def name(self, role: str) -> str:
        return self._endpoint(role).name

    def _ask(self, role: str, request: dict):
        """The message that the model answers; tries again until the deadline when the server is away or busy."""
        pause, said = 0.25, None
        while True:
            left = self.deadline - time.time()
            if left <= 0:
                raise TimeIsOver
            endpoint = self._endpoint(role)
            name, url = endpoint.name, endpoint.url
            options = {k: v for k, v in request.items() if k != "temperature" or name not in self._no_temperature}
            try:
                completion = self._client(endpoint).chat.completions.create(
                    model=name, timeout=min(left, self.settings.request_timeout), **options
                )
                return self._message(completion)
            except openai.APIStatusError as error:
                problem = self._judge(error, role, endpoint)
            except (openai.APIConnectionError, OSError) as error:  # timeouts too, and a certificate that isn't there
                self._clients.pop(endpoint, None)
                problem = f"{role.lower()} model at {url}: {error.__cause__ or error}"
                if "CERTIFICATE_VERIFY_FAILED" in problem:
                    problem += " (whoever answers there is not this run's model)"
            except (openai.OpenAIError, ValueError) as error:  # a body that isn't JSON
                problem = f"{role.lower()} model at {url}: unreadable answer: {error}"
            if problem is None:
                continue
            if said is None:
                said = problem
                print(f"{one_line(problem)}; trying again until the deadline", flush=True)
            time.sleep(max(0, min(pause * self._jitter.uniform(0.5, 1), self.deadline - time.time())))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _endpoint(self, role: str) -> Endpoint:
        """The endpoint of a role, read anew each time: a server that was restarted has another address."""
        self.refresh()
        for prefix in (f"AGENT_{role}", "AGENT_CODE"):
            parts = ("MODEL", "BASE_URL", "API_KEY", "CA_FILE")
            name, url, key, certificate = (self.endpoints.get(f"{prefix}_{part}", "") for part in parts)
            if name and url:
                return Endpoint(name, url, key or "none", certificate)
        raise AgentError("AGENT_CODE_MODEL and AGENT_CODE_BASE_URL are not in ENDPOINTS_FILE: AIDE needs a model")

    def refresh(self) -> None:
        """Read the endpoints anew; while the file is being replaced, the last known ones stay."""
        try:
            self.endpoints = read_endpoints(self.settings.endpoints_file)
        except (OSError, ValueError):
            pass

    def _client(self, endpoint: Endpoint) -> openai.OpenAI:
        if endpoint not in self._clients:
            # a server of the run itself is reached directly, and nobody else is trusted in its place
            own = {"verify": pinned(endpoint.certificate), "trust_env": False} if endpoint.certificate else {}
            self._clients[endpoint] = openai.OpenAI(
                base_url=endpoint.url,
                api_key=endpoint.key,
                max_retries=0,
                http_client=openai.DefaultHttpxClient(**own),
            )
        return self._clients[endpoint]

    def _message(self, completion):
        counts = getattr(completion, "usage", None)
        self.usage.add(
            requests=1,
            prompt_tokens=getattr(counts, "prompt_tokens", None) or 0,
            completion_tokens=getattr(counts, "completion_tokens", None) or 0,
        )
        choices = getattr(completion, "choices", None)
        return choices[0].message if choices else None

    def _judge(self, error: openai.APIStatusError, role: str, endpoint: Endpoint) -> str | None:
        """Why to try again later, or None to try again at once; raises when no try can help."""
        name, url, key, _ = endpoint
        text = one_line(str(error)).replace(key, "***")
        problem = f"{role.lower()} model {name!r} at {url}: {text}"
        status = error.status_code
        if (status in (408, 409, 425, 429) or status >= 500) and error.code != "insufficient_quota":
            return problem
        if status in (400, 413, 422) and TOO_LONG.search(text):
            raise PromptTooLong(text)
        if status == 400 and "temperature" in text and name not in self._no_temperature:
            self._no_temperature.add(name)  # reasoning models take none
            return None
        advice = {401: "check its key", 403: "check its key", 404: "check its name and address"}.get(
            status, "see models.yaml"
        )
        raise AgentError(f"{problem} ({advice})")


def review_from(message, tool: str) -> dict:
    """A review that AIDE can use, whatever the model answered; one that isn't well-formed counts as a bug found."""
    calls = getattr(message, "tool_calls", None) or []
    call = next((call.function for call in calls if getattr(call, "function", None)), None)
    if call is None or call.name != tool:
        return failed_review("the model didn't call the tool")
    try:
        answer = json.loads(call.arguments)
    except (TypeError, ValueError, RecursionError):
        return failed_review("the arguments are no JSON")
    if not isinstance(answer, dict):
        return failed_review("the arguments are no object")
    bug, lower, metric = (answer.get(key) for key in ("is_bug", "lower_is_better", "metric"))
    summary = printable(str(answer.get("summary") or ""))
    if bug is True:
        return {"is_bug": True, "summary": summary, "metric": None, "lower_is_better": lower is True}
    if bug is not False or not isinstance(lower, bool):
        return failed_review("is_bug or lower_is_better is missing")
    try:
        # AIDE itself throws away a whole number
        value = float(metric) if isinstance(metric, int | float) and not isinstance(metric, bool) else math.nan
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        return failed_review(f"the metric is {str(metric)[:50]}")
    return {"is_bug": False, "summary": summary, "metric": value, "lower_is_better": lower}


def failed_review(reason: str) -> dict:
    return {"is_bug": True, "summary": f"The review failed: {reason}.", "metric": None, "lower_is_better": False}


def printable(text: str) -> str:
    """The text without lone surrogates, which no file and no request can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def one_line(text: str) -> str:
    return " ".join(text.split())[:500]
