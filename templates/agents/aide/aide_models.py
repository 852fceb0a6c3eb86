"""Requests of AIDE to its models, in place of AIDE's own backends.

AIDE picks the company by the model's name, retries for ever and sets no timeout. Here each role, CODE and FEEDBACK, has
an OpenAI-compatible endpoint of its own with any served name, and no request outlives the deadline. One POST is all that is
asked of it, so it is httpx that asks: the client named openai, made of it, was two fifths of AIDE's start.
"""

import re

import httpx2 as httpx
from agent_models import AskAgain, Away, Endpoint, Endpoints, no_try_helps, refusal_in, seconds_asked
from agent_settings import Settings, Usage
from aide.backend.utils import FunctionSpec, PromptType, compile_prompt_to_md
from aide_answers import (
    NO_TOOLS,
    TOO_LONG,
    Answer,
    NoAnswer,
    Unreadable,
    answer_in,
    printable,
    program_text,
    review_in,
)
from aide_scores import lower_is_better, printed_score
from post_submission import pinned

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


class PromptTooLong(Exception):
    """The model's context is too short for the prompt."""


class Models(Endpoints):
    """Answers AIDE's two kinds of request: plan and code as text, reviews as a call of the tool submit_review."""

    def __init__(self, settings: Settings, usage: Usage):
        super().__init__(settings, usage, "AIDE")
        self._clients: dict[Endpoint, httpx.Client] = {}
        self._no_temperature: set[str] = set()
        self._no_tools: set[str] = set()  # models that are asked for a review as text
        self._room: dict[
            str, int
        ] = {}  # characters that a model's prompt may have, learnt when it refused a longer one

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
            self.check_tokens()
            return program_text(self._fitting("CODE", prompt, {"temperature": temperature}))
        try:
            review = review_in(self._review(prompt, func_spec, temperature))
            reason = "it names no metric"
        except (Unreadable, PromptTooLong) as error:
            review, reason = None, str(error)
        return settled(review, reason, prompt if isinstance(prompt, dict) else {})

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
        """The model's answer; raises PromptTooLong, and what `ask` raises."""

        def attempt(endpoint: Endpoint, seconds: float) -> tuple[Answer, dict[str, int]]:
            try:
                answer = self._request(endpoint, prompt, request, seconds)
            except NoAnswer as error:
                if is_too_long(200, str(error)):
                    raise PromptTooLong(f"{endpoint}: {self.masked(error)}") from None
                raise Away(f"{endpoint} answers with {self.masked(error)}") from None
            except httpx.HTTPStatusError as error:
                self._judge(error.response, endpoint)
                raise
            except (
                httpx.HTTPError,
                httpx.InvalidURL,
                OSError,
                ValueError,
            ) as error:  # timeouts too, and a certificate that isn't there
                self._clients.pop(endpoint, None)
                raise self.unreachable(endpoint, error) from None
            return answer, {name: getattr(answer, name) for name in ("prompt_tokens", "completion_tokens")}

        return self.ask(role, attempt)

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

    def _client(self, endpoint: Endpoint) -> httpx.Client:
        if endpoint not in self._clients:
            # a server of the run itself is reached directly, and nobody else is trusted in its place
            own = {"verify": pinned(endpoint.certificate), "trust_env": False} if endpoint.certificate else {}
            headers = {"Authorization": f"Bearer {endpoint.key}"}
            self._clients[endpoint] = httpx.Client(headers=headers, follow_redirects=True, **own)
        return self._clients[endpoint]

    def _judge(self, response: httpx.Response, endpoint: Endpoint) -> None:
        """Raise what an answer with an error's status means: another try, later or at once, or none."""
        text, status, name = response.text[:20_000], response.status_code, endpoint.name
        words = refusal_in(text)
        final = no_try_helps(status, text)
        if is_too_long(status, text) and not final:
            raise PromptTooLong(f"{endpoint}: HTTP {status}: {self.masked(words)}")
        if status in (400, 404, 405, 422, 500, 501) and NO_TOOLS.search(text) and self._without_tools(endpoint):
            raise AskAgain
        if status in (400, 422) and "temperature" in text and name not in self._no_temperature:
            self._no_temperature.add(name)  # reasoning models take none
            raise AskAgain
        self.refused(endpoint, status, words, final, seconds_asked(response.headers))

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
