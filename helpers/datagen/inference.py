"""A model that is asked over HTTP: one prompt, or very many, and whether it is there at all. engines.py has the types of it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from helpers.datagen import forms
from helpers.datagen.answers import AnswerFile, digest_of
from helpers.datagen.endpoints import Endpoint, Fixed, NoEndpoint, Written
from helpers.datagen.forms import Message
from helpers.datagen.http_client import Away, Client, Final, Request, Usage
from helpers.datagen.many import as_they_come
from helpers.datagen.schemas import InferenceFailure, InputValidationError
from helpers.lib import private

CONCURRENCY = 64
MOST_CALLERS = 1000  # threads that may call `generate` of one engine without new connections
QUESTION: list[Message] = [{"role": "user", "content": "Say yes."}]
OTHER_LIMIT = re.compile(r"max_(completion_|output_)?tokens", re.I)
PROBE_SECONDS, LISTING_SECONDS = (
    20.0,
    5.0,
)  # for an answer of one token, by which a server that is loaded may be busy with others
Prompt = str | list[Message]


class Health(NamedTuple):
    """How a model does. state: alive; slow (it is there, and has no time now); dead (nobody is there, or it refuses).

    words: what was seen, a sentence's part; is_final: whether waiting can't help.
    """

    state: str
    words: str
    is_final: bool = False


class InferenceEngine:
    """A model that is asked over HTTP. Closed by `close`, or as a context."""

    type_name = "openai"
    form_name = "compatible"
    requires_initial_healthcheck = False

    def __init__(
        self,
        where: Fixed | Written,
        *,
        key_name: str = "its key",
        timeout: float = 900.0,
        request_timeout: float = 600.0,
        healthcheck_interval: float = 0.0,
        prices: tuple[float, float] | None = None,
        about: dict[str, Any] | None = None,
        **options: Any,
    ):
        """where: the address. timeout, request_timeout: seconds for a whole call with all its tries, and for one of them.

        healthcheck_interval: seconds for which a good answer counts for `healthcheck`. prices: USD for a million tokens of prompts, and of
        answers. about: more for get_metadata. options: of each request (max_tokens, temperature, top_p, stop, …).
        """
        self.where, self.form, self.key_name = where, forms.find(self.form_name), key_name
        self.timeout, self.request_timeout, self.healthcheck_interval = timeout, request_timeout, healthcheck_interval
        self.prices, self.about, self.options = prices, about or {}, options
        self.usage = Usage()
        self._client: Client | None = None  # of `generate`
        self._open: set[Client] = set()
        self._is_closed, self._last_good = False, 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> InferenceEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is under way, in whatever thread, and all connections; nothing is asked any more."""
        with self._lock:
            clients, self._open, self._client, self._is_closed = self._open, set(), None, True
        for client in clients:
            client.close()

    def generate(self, prompt: Prompt, **options: Any) -> str:
        """The answer to a text, or to messages. Raises InferenceFailure, InputValidationError."""
        with self._lock:
            self._client = client = self._client or self._new_client(MOST_CALLERS)
            self._open.add(client)
        return self._ask(client, self._body(forms.messages_of(prompt), options))[0]

    def generate_many(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = CONCURRENCY,
        answers: str | Path | None = None,
        failed: Callable[[int, InferenceFailure], None] | None = None,
        **options: Any,
    ) -> Iterator[tuple[int, str]]:
        """Ask `concurrency` prompts at a time; yields the number of each and its answer, as they come.

        Prompts are taken as they are needed: at most 2 × concurrency are held. answers: a file that keeps what was answered; what it has
        already isn't asked. Equal prompts are asked each for itself.
        failed: told of a prompt that gets no answer; without it the first such one ends all, after the answers under way have come.
        Raises InferenceFailure, InputValidationError, OSError of the file.
        """
        if concurrency < 1:
            raise InputValidationError(f"concurrency: must be at least 1, not {concurrency}")
        with ExitStack() as stack:
            book = stack.enter_context(AnswerFile(answers)) if answers is not None else None
            client = stack.enter_context(self._client_of_its_own(concurrency))

            def ask(item: tuple[str, Any]) -> str:
                digest, body = item
                text, tokens = self._ask(client, body)
                if book is not None:
                    book.add(digest, text, tokens)
                return text

            def is_fatal(error: BaseException) -> bool:
                return failed is None or not isinstance(error, InferenceFailure)

            requests = self._requests(prompts, options, book)
            found = as_they_come(ask, requests, concurrency, client.close, is_fatal)
            for number, text, error in stack.enter_context(closing(found)):
                if isinstance(error, InferenceFailure) and failed is not None:
                    failed(number, error)
                else:
                    yield number, str(text)

    def _requests(
        self, prompts: Iterable[Prompt], options: dict[str, Any], book: AnswerFile | None
    ) -> Iterator[tuple[tuple[str, Any], str | None]]:
        """For each prompt what is to be asked, and the answer where it is there already."""
        seen: Counter[bytes] = Counter()
        for prompt in prompts:
            body = self._body(forms.messages_of(prompt), options)
            if book is None:
                yield ("", body), None
                continue
            request = {"form": self.form.name, "model": self.model, "body": body}
            digest = digest_of(request)
            short = bytes.fromhex(digest)[:16]
            if seen[short]:
                digest = digest_of(request, seen[short])
            seen[short] += 1
            yield (digest, body), book.get(digest)

    @property
    def model(self) -> str:
        """The model's name as it is sent, which a file of an endpoint may tell. Raises InferenceFailure where that isn't there."""
        return self._endpoint().model

    def _endpoint(self) -> Endpoint:
        try:
            return self.where.last or self.where.read()
        except NoEndpoint as error:
            raise InferenceFailure(str(error)) from None

    @contextmanager
    def _client_of_its_own(self, most: int) -> Iterator[Client]:
        with self._lock:
            client = self._new_client(most)
            self._open.add(client)
        try:
            yield client
        finally:
            with self._lock:
                self._open.discard(client)
            client.close()

    def _new_client(self, most: int) -> Client:
        if self._is_closed:
            raise InferenceFailure(f"{self.type_name}: the engine was closed, and asks nothing any more")
        client = Client(self.timeout, self.request_timeout, most)
        client.usage = self.usage  # together
        return client

    def _body(self, messages: list[Message], options: dict[str, Any]) -> Any:
        body = self.form.body(self.model, messages, {**self.options, **options})
        try:
            json.dumps(body, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputValidationError(f"a prompt, or an option of its request, is no JSON: {error}", error) from None
        return body

    def _request(self, body: Any, endpoint: Endpoint, url: str | None = None) -> Request:
        who = f"{self.type_name} model {endpoint.model!r} at {endpoint.shown}"
        url = url or self.form.url(endpoint.url, endpoint.model)
        return Request(who, endpoint, url, self.form.headers(endpoint.key), body, self.key_name)

    def _ask(self, client: Client, body: Any, seconds: float | None = None) -> tuple[str, tuple[int, int]]:
        tries = 0

        def make() -> Request:
            nonlocal tries
            tries += 1  # where the first has failed, the server may be elsewhere
            return self._request(body, self._endpoint() if tries == 1 else self.where.read())

        def read(answer: Any) -> tuple[str, tuple[int, int]]:
            tokens = self.form.tokens(answer)
            client.answered(tokens)
            try:
                return self.form.text(answer), tokens
            except forms.NoText as error:
                raise (Away(str(error), "strange") if error.again else Final(str(error))) from None

        return client.ask(make, read, seconds)

    def state(self) -> Health:
        """Ask for one token; how the model does. A server that does not answer that, and answers others, is slow."""
        began = time.monotonic()
        try:
            endpoint = self.where.read()
        except NoEndpoint as error:
            return Health("dead", str(error))
        body = self.form.body(endpoint.model, QUESTION, {"max_tokens": 1})
        request = self._request(body, endpoint)
        with closing(Client(self.timeout, self.request_timeout, 1)) as client:
            try:
                client.send(request, began + PROBE_SECONDS)
            except Final as error:
                if not OTHER_LIMIT.search(str(error)):
                    return Health("dead", f"{request.who} refuses: {error}", True)
            except Away as away:
                words = f"{request.who}: {away}"
                if away.kind == "busy":
                    return Health("slow", words)
                if away.kind == "slow" and (self.usage.last_answer > began or self._lists_models(client, endpoint)):
                    return Health("slow", f"{words}, but it answers others")
                return Health("dead", words)
        self._last_good = time.monotonic()
        return Health("alive", f"{request.who} answers")

    def _lists_models(self, client: Client, endpoint: Endpoint) -> bool:
        request = self._request(None, endpoint, self.form.models_url(endpoint.url))
        try:
            client.send(request, time.monotonic() + LISTING_SECONDS)
        except Final:
            return True  # it spoke
        except Away as away:
            return away.kind in ("busy", "strange")
        return True

    def healthcheck(self) -> bool:
        """Whether the model answers: asked for one token, unless it answered within healthcheck_interval and nothing failed since."""
        good = max(self._last_good, self.usage.last_answer)
        if good > self.usage.last_problem and time.monotonic() - good < self.healthcheck_interval:
            return True
        return self.state().state == "alive"

    def get_metadata(self) -> dict[str, Any]:
        """What to note of it: type, model, address, options, what was used (cost_usd: None where the prices aren't known); no key."""
        try:
            endpoint: Endpoint | None = self.where.last or self.where.read()
        except NoEndpoint:
            endpoint = None
        return {
            "engine_type": self.type_name,
            "model": endpoint and endpoint.model,
            "base_url": endpoint and endpoint.shown,
            "options": private.masked(self.options),
            **self.about,
            "usage": self.usage.counts(),
            "cost_usd": self.cost,
        }

    @property
    def cost(self) -> float | None:
        """USD for what was used so far; None where the prices aren't known."""
        if self.prices is None:
            return None
        counts = self.usage.counts()
        return (counts["prompt_tokens"] * self.prices[0] + counts["completion_tokens"] * self.prices[1]) / 1e6
