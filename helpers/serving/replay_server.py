"""The replay model: an OpenAI-compatible server that is not a language model.

Its answers are prepared (helpers/serving/transcripts/). AIDE's requests for plan and code get the next of the solutions in
templates/replay, those for a review what the program's output says: the printed validation score, or that it failed. Shell
agents get the next command of a script. So the whole path of a run can be proven without a GPU, and the scores that come
out are real. Who asks without tools gets a sentence that says what it is; all other requests are refused.
"""

import hmac
import json
import os
import sys
import time
from typing import Any

from helpers.serving import server
from helpers.serving.http_front import Application, Body, Events, serve
from helpers.serving.server import CallLog, Rejected, ServerError
from helpers.serving.transcripts import registry
from helpers.serving.transcripts.base import OWNER, Answer, Request, request_of

LARGEST_REQUEST = 2**26  # bytes


class Replay(Application):
    """Answers to the model names `names`; everybody, where there is no token. Raises OSError when a prepared answer can't be read."""

    def __init__(self, names: list[str], token: str | None, log: CallLog) -> None:
        self.names, self.token, self.log, self.transcripts = names, token, log, registry.load()
        self.running, self.given, self.made = 0, 0, 0

    async def answer(self, scope: dict[str, Any], body: Body) -> tuple[int, dict[str, Any] | str]:
        try:
            status, (kind, reply) = 200, await self._answer(scope, body)
        except Rejected as error:
            status, kind = error.status, {401: "authentication", 404: "not_found"}.get(error.status, "invalid_request")
            reply = {"error": {"message": str(error), "type": f"{kind}_error", "param": None, "code": status}}
            kind = "refused"
        if kind != "metrics":  # asked every few seconds
            self.log.write(path=scope["path"][:100], kind=kind, status=status)
        return status, reply

    async def _answer(self, scope: dict[str, Any], body: Body) -> tuple[str, dict[str, Any] | str]:
        asked = scope["method"], scope["path"]
        if asked == ("GET", "/health"):
            return "health", {"status": "running", "model": OWNER}
        given = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ")
        if self.token and not hmac.compare_digest(given, self.token.encode()):
            raise Rejected(401, "Unauthorized: send the server's token as 'Authorization: Bearer …'")
        if asked == ("GET", "/metrics"):
            return "metrics", self._metrics()
        if asked == ("GET", "/v1/models"):
            served = [{"id": name, "object": "model", "created": 0, "owned_by": OWNER} for name in self.names]
            return "models", {"object": "list", "data": served}
        if asked == ("POST", "/v1/chat/completions"):
            self.running += 1
            try:
                return self._complete(await body.whole(LARGEST_REQUEST))
            finally:
                self.running -= 1
        if scope["path"].startswith("/v1/"):
            raise Rejected(400, f"{OWNER}: it answers GET /v1/models and POST /v1/chat/completions")
        raise Rejected(404, f"not found: {scope['path'][:100]}")

    def _metrics(self) -> str:
        """Its load by vLLM's names, in Prometheus' text format. Nothing waits here, and the tokens are words, as in the answers' usage."""
        told = (
            ("gauge", "num_requests_running", self.running),
            ("gauge", "num_requests_waiting", 0),
            ("counter", "prompt_tokens_total", self.given),
            ("counter", "generation_tokens_total", self.made),
        )
        return "".join(
            f'# TYPE vllm:{name} {kind}\nvllm:{name}{{model_name="{OWNER}"}} {value}\n' for kind, name, value in told
        )

    def _complete(self, text: bytes) -> tuple[str, dict[str, Any] | str]:
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            raise Rejected(400, "the body is not JSON") from None
        request = request_of(body, self.names)
        answer = registry.answer(request, self.transcripts)
        self.given, self.made = self.given + request.words, self.made + answer.words
        return answer.kind, (streamed if request.streams else whole)(request, answer)


def _head(request: Request, kind: str) -> dict[str, Any]:
    return {"id": f"replay-{time.time_ns()}", "object": kind, "created": int(time.time()), "model": request.model}


def _usage(request: Request, answer: Answer) -> dict[str, int]:
    total = request.words + answer.words
    return {"prompt_tokens": request.words, "completion_tokens": answer.words, "total_tokens": total}


def whole(request: Request, answer: Answer) -> dict[str, Any]:
    """An answer as one chat completion. Its tokens are words."""
    choice = {"index": 0, "message": answer.message, "finish_reason": answer.finish}
    return {**_head(request, "chat.completion"), "choices": [choice], "usage": _usage(request, answer)}


def streamed(request: Request, answer: Answer) -> Events:
    """An answer as the events of a chat completion that is streamed: all of it, its end, and its usage where that is asked for."""
    head, message = _head(request, "chat.completion.chunk"), answer.message
    calls = [{"index": number, **call} for number, call in enumerate(message.pop("tool_calls", []))]
    delta = message | ({"tool_calls": calls} if calls else {})
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": answer.finish}]},
    ]
    if request.tells_usage:
        chunks.append({**head, "choices": [], "usage": _usage(request, answer)})
    return Events("".join(f"data: {line}\n\n" for line in (*map(json.dumps, chunks), "[DONE]")))


def main(argv: list[str] | None = None) -> int:
    parser = server.parser("replay_server", __doc__.split("\n\n")[0])
    parser.add_argument(
        "--served-name", action="append", metavar="NAME", help="a model name to answer to (default: replay)"
    )
    parser.epilog = "The token that requests must carry is read from MODEL_TOKEN; without one only loopback is served."
    options = parser.parse_args(argv)
    token = os.environ.get("MODEL_TOKEN")
    try:
        listener, certificate, log = server.opened(options, None if token else "MODEL_TOKEN")
        port = listener.getsockname()[1]
        app = Replay(options.served_name or ["replay"], token, log)
        serve(
            listener,
            certificate,
            lambda: app,
            LARGEST_REQUEST,
            lambda: server.announce("replay server", options, port),
        )
    except (ServerError, OSError) as error:
        print(f"replay server: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
