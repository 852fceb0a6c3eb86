"""One client for all models: asks again where that can help, never longer than a call's deadline, and counts what was used.

Asked again: no connection, one that was cut, no answer in time, 408, 409, 425, 429, 5xx, and three times what is no answer. Pauses double
from 0.5 s to 30 s, with jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), or are as long as Retry-After
says (RFC 9110, section 10.2.3), and then for all calls of the client.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar

import requests

from helpers.datagen.connections import WatchedAdapter
from helpers.datagen.endpoints import Endpoint, NoEndpoint
from helpers.datagen.schemas import InferenceFailure
from helpers.lib import durations, private, text

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
LARGEST_ANSWER = 64 * 2**20  # bytes
CONNECT_SECONDS = 20.0
STRANGE_ANSWERS = 3
ENDED = "its answer is not waited for: the generation was ended"
TRY_AGAIN = (408, 409, 425, 429)
# how services say that no try will help before somebody pays
QUOTA = re.compile(
    r"insufficient.?(quota|balance|credits|funds)|credit balance is too low|billing_|budget.{0,20}exceeded", re.I
)
UNSENT = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
    UnicodeError,
)
Said = TypeVar("Said")


class Away(Exception):
    """No answer this time. kind: away, slow, busy or strange; asked: seconds that the server wants us to wait."""

    def __init__(self, problem: str, kind: str, asked: float | None = None):
        super().__init__(problem)
        self.kind, self.asked = kind, asked


class Final(Exception):
    """No answer, and no try would help."""


@dataclass
class Usage:
    """What a client was asked and told. requests: all tries; last_answer, last_problem: when (time.monotonic). Threads use `add`."""

    requests: int = 0
    answers: int = 0
    rate_limited: int = 0
    server_errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    last_answer: float = 0.0
    last_problem: float = 0.0
    lock: Any = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def counts(self) -> dict[str, int]:
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}


@dataclass(frozen=True)
class Request:
    """What is sent: a POST of `body`, or a GET where that is None. who: how messages call the endpoint."""

    who: str
    endpoint: Endpoint
    url: str
    headers: dict[str, str] = field(repr=False)
    body: Any = None
    key_name: str = "its key"


class Client:
    """Connections to models, for as many threads as like; `close` ends all calls at once.

    seconds: for a whole call, all its tries and pauses; request_seconds: for one try.
    """

    def __init__(self, seconds: float = 900.0, request_seconds: float = 600.0, most: int = 64):
        self.seconds, self.request_seconds = seconds, request_seconds
        self.usage = Usage()
        self._jitter = random.Random()
        self._quiet_until = 0.0
        self._adapter = WatchedAdapter(most)
        self._session = requests.Session()
        self._session.trust_env = False  # it would send what ~/.netrc holds in place of the key
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def close(self) -> None:
        """End all calls, in whatever thread, and all connections."""
        self._adapter.watch.close()
        self._session.close()

    def ask(self, make: Callable[[], Request], read: Callable[[Any], Said], seconds: float | None = None) -> Said:
        """What `read` makes of the JSON that came back. make: called for each try, since the address may have changed.

        make may raise NoEndpoint, read raises Away or Final. Raises InferenceFailure: which endpoint, what it said, how often and how
        long it was tried.
        """
        started, tries, strange, pause, who = time.monotonic(), 0, 0, FIRST_PAUSE, ""
        deadline = started + (self.seconds if seconds is None else seconds)
        while True:
            try:
                request = make()
                who = request.who
                self._rest(deadline)
                tries += 1
                return read(self.send(request, deadline))
            except NoEndpoint as error:
                away = Away(str(error), "away")
            except Away as error:
                away = error
            except Final as error:
                if self._is_elsewhere(make, request):
                    continue
                raise InferenceFailure(_sentence(who, str(error), tries, started)) from None
            self.usage.last_problem = time.monotonic()
            strange += away.kind == "strange"
            wait = away.asked or pause * self._jitter.uniform(0.5, 1)
            if time.monotonic() + wait >= deadline or strange >= STRANGE_ANSWERS:
                raise InferenceFailure(_sentence(who, str(away), tries, started))
            if away.asked:
                self._quiet_until = max(self._quiet_until, time.monotonic() + wait)
            if self._adapter.watch.over.wait(wait):
                raise InferenceFailure(_sentence(who, ENDED, tries, started))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _is_elsewhere(self, make: Callable[[], Request], request: Request) -> bool:
        """Whether the server has moved meanwhile: then it was a stranger who refused."""
        try:
            return not self._adapter.watch.over.is_set() and make().endpoint != request.endpoint
        except NoEndpoint:
            return False

    def _rest(self, deadline: float) -> None:
        """Wait where the server has asked any call to; not all go on at the same moment. Raises Final where that is too late."""
        wait = (self._quiet_until - time.monotonic()) * self._jitter.uniform(1, 1.1)
        if wait > 0:
            if time.monotonic() + wait >= deadline:
                raise Final(f"it asks to wait {durations.words(wait)}, which is too long")
            if self._adapter.watch.over.wait(wait):
                raise Final(ENDED)

    def send(self, request: Request, deadline: float) -> Any:
        """One try; the JSON of a good answer. Raises Away and Final."""
        self.usage.add(requests=1)
        until = min(deadline, time.monotonic() + self.request_seconds)
        seconds = max(0.1, until - time.monotonic())
        try:
            with self._adapter.watch.until(until) as call:
                status, headers, data = self._exchange(request, seconds)
            if call.is_cut:
                raise requests.Timeout
        except UNSENT:  # their words may hold the key
            raise Final(f"{request.key_name} holds what no header of a request may, or an address is none") from None
        except (requests.RequestException, OSError) as error:
            if self._adapter.watch.over.is_set():
                raise Final(ENDED) from None
            if call.is_cut and not isinstance(error, requests.ConnectTimeout):
                raise Away(f"no answer within {durations.words(seconds)}", "slow") from None
            raise _away(error) from None
        if status != 200:
            self._refused(request, status, headers, data)
        try:
            answer = json.loads(data)
            if not isinstance(answer, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise Away(f"an answer that is no JSON object: {_words(data, request)}", "strange") from None
        return answer

    def _exchange(self, request: Request, seconds: float) -> tuple[int, Any, bytes]:
        endpoint = request.endpoint
        trusted = (
            endpoint.certificate or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
        )
        proxies = {} if endpoint.is_ours else requests.utils.get_environ_proxies(request.url)
        data = None if request.body is None else json.dumps(request.body).encode()
        with self._session.request(
            "GET" if data is None else "POST",
            request.url,
            data=data,
            headers={"Content-Type": "application/json", "Accept": "application/json", **request.headers},
            timeout=(min(CONNECT_SECONDS, seconds), seconds + 5),  # the watch comes first
            proxies=proxies,
            verify=trusted,
            allow_redirects=False,
            stream=True,
        ) as answer:
            parts, size = [], 0
            for part in answer.iter_content(65536):
                parts.append(part)
                size += len(part)
                if size > LARGEST_ANSWER:
                    raise Final(f"an answer of over {LARGEST_ANSWER // 2**20} MB")
            return answer.status_code, answer.headers, b"".join(parts)

    def _refused(self, request: Request, status: int, headers: Any, data: bytes) -> None:
        """Judge an answer with an error's status: raises Away where another try can help, else Final."""
        words = _words(data, request)
        problem = f"HTTP {status}" + (f": {words}" if words else "")
        needs_money = status == 402 or bool(QUOTA.search(data[:20000].decode("utf-8", "replace")))
        if not needs_money and (status in TRY_AGAIN or status >= 500):
            self.usage.add(rate_limited=int(status == 429), server_errors=int(status >= 500))
            asked = seconds_asked(headers)
            raise Away(problem + (f" (it asks to wait {durations.words(asked)})" if asked else ""), "busy", asked)
        advice = {401: f"check {request.key_name}", 403: f"check {request.key_name}", 404: "check its name and address"}
        said = "its quota is used up" if needs_money else advice.get(status)
        raise Final(problem + (f" ({said})" if said else ""))

    def answered(self, tokens: tuple[int, int]) -> None:
        """Count an answer and its tokens."""
        self.usage.last_answer = time.monotonic()
        self.usage.add(answers=1, prompt_tokens=tokens[0], completion_tokens=tokens[1])


def seconds_asked(headers: Any) -> float | None:
    """How long a server asks to wait: seconds, or until a date; None where it doesn't say."""
    said = str(headers.get("Retry-After", "")).strip()
    try:
        return (
            float(said)
            if re.fullmatch(r"\d+(\.\d+)?", said)
            else max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
        )
    except (TypeError, ValueError, OverflowError):
        return None


def _away(error: BaseException) -> Away:
    """What a failed exchange means, by the first cause of the many that urllib3 and requests wrap in one another."""
    causes = list(_causes(error))
    for one in causes:
        if isinstance(one, socket.gaierror):
            return Away("the name of its host is not known", "away")
        if "CERTIFICATE_VERIFY_FAILED" in str(one):
            return Away("whoever answers there can't prove to be it (its certificate is another)", "away")
    for one in causes:
        if isinstance(one, TimeoutError):
            return Away("no connection in time", "away")
        if isinstance(one, OSError) and one.errno and one.strerror and not isinstance(one, ConnectionResetError):
            return Away(text.clean(one.strerror).lower(), "away")
    return Away("the connection was cut", "away")


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [*getattr(one, "args", ()), getattr(one, "reason", None), one.__cause__, one.__context__]
        waiting += [other for other in inner if isinstance(other, BaseException)]


def _words(data: bytes, request: Request) -> str:
    """What a server said, on one line, without keys: the words of an error in its usual places, else the beginning."""
    said = data[:20000].decode("utf-8", "replace")
    try:
        found = _said_in(json.loads(said))
    except (ValueError, RecursionError):
        found = None
    said = " ".join(text.clean(found or said).split())
    if request.endpoint.key and len(request.endpoint.key) > 4:
        said = said.replace(request.endpoint.key, private.MASK)
    return private.mask(said)[:300].strip()


def _said_in(body: Any) -> str | None:
    if isinstance(body, list):
        body = body[0] if body else None
    for key in ("error", "message", "detail", "msg"):
        said = body.get(key) if isinstance(body, dict) else None
        if isinstance(said, dict):
            said = said.get("message")
        if isinstance(said, str) and said:
            return said
    return None


def _sentence(who: str, problem: str, tries: int, started: float) -> str:
    tried = f"; tried {tries} times in {durations.words(time.monotonic() - started)}" if tries > 1 else ""
    return f"{who}: {problem}{tried}" if who else problem + tried
