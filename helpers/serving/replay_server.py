"""The replay model: an OpenAI-compatible server that is not a language model.

It answers the two kinds of request that AIDE makes. A request for plan and code gets the next of the prepared
solutions in templates/replay; a request for a review gets what the program's output says: the printed validation score,
or that it failed. So the whole path of a run can be proven without a GPU, and the scores that come out are real. All
other requests are refused.
"""

import ast
import hmac
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from helpers.lib.checkout import ROOT
from helpers.serving import server
from helpers.serving.http_front import Application, Body, serve
from helpers.serving.server import CallLog, Rejected, ServerError

SOLUTIONS = ROOT / "templates" / "replay"
# all solutions call solve() of this module, so it stands at the top of each
COMMON_PART = ROOT / "templates" / "agents" / "common" / "tabular.py"
OWNER = "replay (not a language model)"
REVIEW_TOOL = "submit_review"
LARGEST_REQUEST = 2**26  # bytes
LOWER_IS_BETTER = {"rmse", "mse", "mae", "rmsle", "log_loss"}
# how a solution marks itself, in its plan and in its code: the prompt shows earlier ones, and so tells which comes next
MARK = re.compile(r"replay solution (\d+)")
SCORE = re.compile(r"^Validation score: (\S+) \((\w+)", re.MULTILINE)
FAILURE = re.compile(r"^(Traceback \(most recent call last\)|\w*Error: ).*", re.MULTILINE)


def load_solutions(folder: Path = SOLUTIONS, common_part: Path = COMMON_PART) -> list[tuple[str, str]]:
    """The prepared solutions in the order of their names, each as plan and code; raises OSError, SyntaxError."""
    common = without_docstring(common_part.read_text())[1]
    pairs = [without_docstring(path.read_text()) for path in sorted(folder.glob("solution_*.py"))]
    if not pairs:
        raise OSError(f"no solution_*.py in {folder}")
    return [(" ".join(plan.split()), f"{common}\n\n{model}") for plan, model in pairs]


def without_docstring(source: str) -> tuple[str, str]:
    """Docstring and the rest of a module's source."""
    tree = ast.parse(source)
    return ast.get_docstring(tree) or "", "\n".join(source.splitlines()[tree.body[0].end_lineno :]).strip()


def next_solution(prompt: str, solutions: list[tuple[str, str]]) -> str:
    """Plan and code of the solution after the last that the prompt mentions; they start again with another seed."""
    number = max(map(int, MARK.findall(prompt)), default=0) + 1
    plan, code = solutions[(number - 1) % len(solutions)]
    call = (
        f'metric, score = solve("input", "working/submission.csv", make_model, seed={number})\n'
        'direction = "lower" if metric in ("rmse", "log_loss") else "higher"\n'
        'print(f"Validation score: {score:.6f} ({metric}, {direction} is better, 5-fold cross-validation)")'
    )
    return (
        f"This is replay solution {number}. {plan}\n\n```python\n# replay solution {number}\n{code}\n\n\n{call}\n```\n"
    )


def review(prompt: str) -> dict:
    """AIDE's review of a program, read from the execution output in the prompt."""
    output = prompt.rpartition("# Execution output\n")[2]
    failure, scores = FAILURE.search(output), SCORE.findall(output)
    value = as_number(scores[-1][0]) if scores else None
    lower = bool(scores) and scores[-1][1].lower() in LOWER_IS_BETTER
    if failure or value is None:
        summary = f"replay: {failure.group(0) if failure else 'no validation score in the output'}"
        return {"is_bug": True, "summary": summary, "metric": None, "lower_is_better": lower}
    summary = f"replay: the program printed {scores[-1][1]} {value}."
    return {"is_bug": False, "summary": summary, "metric": value, "lower_is_better": lower}


def as_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None  # false for nan too


def answer(request: dict, names: list[str], solutions: list[tuple[str, str]]) -> tuple[str, dict]:
    """Kind of a chat completion request and the message that answers it; raises Rejected."""
    if not isinstance(request, dict):
        raise Rejected(400, "the body is not a JSON object")
    name, messages, tools = request.get("model"), request.get("messages"), request.get("tools")
    if name not in names:
        raise Rejected(404, f"The model {name!r} does not exist. Served here: {', '.join(names)}")
    if not isinstance(messages, list) or not messages or not all(is_text_message(message) for message in messages):
        raise Rejected(400, "'messages' must be a list of messages with text content")
    if request.get("stream") or request.get("n", 1) != 1:
        raise Rejected(400, f"{OWNER}: it neither streams nor gives several answers")
    prompt = "\n".join(message["content"] for message in messages)
    if tools:
        if tool_names(tools) != [REVIEW_TOOL]:
            raise Rejected(400, f"{OWNER}: the only tool it knows is AIDE's {REVIEW_TOOL}")
        call = {"name": REVIEW_TOOL, "arguments": json.dumps(review(prompt))}
        return "review", {"content": None, "tool_calls": [{"id": "replay", "type": "function", "function": call}]}
    if "single markdown code block" in prompt:
        return "code", {"content": next_solution(prompt, solutions)}
    if (request.get("max_tokens") or request.get("max_completion_tokens")) == 1:
        return "ping", {"content": "replay"}
    raise Rejected(400, f"{OWNER}: it answers only AIDE's requests for code and for reviews")


def tool_names(tools: object) -> list:
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return [function.get("name") for function in functions if isinstance(function, dict)]


def is_text_message(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content"), str)


class Replay(Application):
    """Answers to the model names `names`; everybody, where there is no token. Raises OSError when a solution can't be read."""

    def __init__(self, names: list[str], token: str | None, log: CallLog) -> None:
        self.names, self.token, self.log, self.solutions = names, token, log, load_solutions()
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

    def _complete(self, text: bytes) -> tuple[str, dict[str, Any]]:
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            raise Rejected(400, "the body is not JSON") from None
        kind, message = answer(request, self.names, self.solutions)
        given = sum(len(part["content"].split()) for part in request["messages"])
        made = len((message["content"] or message["tool_calls"][0]["function"]["arguments"]).split())
        self.given, self.made = self.given + given, self.made + made
        reason = {"review": "tool_calls", "ping": "length"}.get(kind, "stop")
        return kind, {
            "id": f"replay-{time.time_ns()}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}],
            "usage": {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made},
        }


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
