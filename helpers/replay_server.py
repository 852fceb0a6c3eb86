"""The replay model: an OpenAI-compatible server that is not a language model.

It answers the two kinds of request that AIDE makes. A request for plan and code gets the next of the prepared
solutions in templates/replay; a request for a review gets what the program's output says: the printed validation score,
or that it failed. So the whole path of a run can be proven without a GPU, and the scores that come out are real. All
other requests are refused.
"""

import argparse
import ast
import hmac
import ipaddress
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOLUTIONS = ROOT / "templates" / "replay"
# all solutions call solve() of this module, so it stands at the top of each
COMMON_PART = ROOT / "templates" / "agents" / "baseline" / "tabular.py"
OWNER = "replay (not a language model)"
REVIEW_TOOL = "submit_review"
LOWER_IS_BETTER = {"rmse", "mse", "mae", "rmsle", "log_loss"}
# how a solution marks itself, in its plan and in its code: the prompt shows earlier ones, and so tells which comes next
MARK = re.compile(r"replay solution (\d+)")
SCORE = re.compile(r"^Validation score: (\S+) \((\w+)", re.MULTILINE)
FAILURE = re.compile(r"^(Traceback \(most recent call last\)|\w*Error: ).*", re.MULTILINE)


class Refusal(Exception):
    """A request that is answered with an error in OpenAI's form."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


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
    """Kind of a chat completion request and the message that answers it; raises Refusal."""
    if not isinstance(request, dict):
        raise Refusal(400, "the body is not a JSON object")
    name, messages, tools = request.get("model"), request.get("messages"), request.get("tools")
    if name not in names:
        raise Refusal(404, f"The model {name!r} does not exist. Served here: {', '.join(names)}")
    if not isinstance(messages, list) or not messages or not all(is_text_message(message) for message in messages):
        raise Refusal(400, "'messages' must be a list of messages with text content")
    if request.get("stream") or request.get("n", 1) != 1:
        raise Refusal(400, f"{OWNER}: it neither streams nor gives several answers")
    prompt = "\n".join(message["content"] for message in messages)
    if tools:
        if tool_names(tools) != [REVIEW_TOOL]:
            raise Refusal(400, f"{OWNER}: the only tool it knows is AIDE's {REVIEW_TOOL}")
        call = {"name": REVIEW_TOOL, "arguments": json.dumps(review(prompt))}
        return "review", {"content": None, "tool_calls": [{"id": "replay", "type": "function", "function": call}]}
    if "single markdown code block" in prompt:
        return "code", {"content": next_solution(prompt, solutions)}
    if (request.get("max_tokens") or request.get("max_completion_tokens")) == 1:
        return "ping", {"content": "replay"}
    raise Refusal(400, f"{OWNER}: it answers only AIDE's requests for code and for reviews")


def tool_names(tools: object) -> list:
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return [function.get("name") for function in functions if isinstance(function, dict)]


def is_text_message(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content"), str)


def create_app(names: list[str], token: str | None = None, log: Path | None = None):
    """The Flask application, answering to the model names `names`. Raises OSError when a solution can't be read."""
    from flask import Flask, g, jsonify, request
    from werkzeug.exceptions import HTTPException

    app = Flask(__name__)
    solutions = load_solutions()

    @app.before_request
    def check_token():
        g.kind = "refused"
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and request.path != "/health" and not hmac.compare_digest(given.encode(), token.encode()):
            raise Refusal(401, "Unauthorized: send the server's token as 'Authorization: Bearer …'")

    @app.get("/health")
    def health():
        g.kind = "health"
        return jsonify(status="running", model=OWNER)

    @app.get("/v1/models")
    def models():
        g.kind = "models"
        served = [{"id": name, "object": "model", "created": 0, "owned_by": OWNER} for name in names]
        return jsonify(object="list", data=served)

    @app.post("/v1/chat/completions")
    def complete():
        asked = request.get_json(force=True, silent=True)
        g.kind, message = answer(asked, names, solutions)
        given = sum(len(part["content"].split()) for part in asked["messages"])
        text = message["content"] or message["tool_calls"][0]["function"]["arguments"]
        made = len(text.split())
        reason = {"review": "tool_calls", "ping": "length"}.get(g.kind, "stop")
        return jsonify(
            id=f"replay-{time.time_ns()}",
            object="chat.completion",
            created=int(time.time()),
            model=asked["model"],
            choices=[{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}],
            usage={"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made},
        )

    @app.post("/v1/<path:_>")
    def refuse(_):
        raise Refusal(400, f"{OWNER}: only /v1/chat/completions is answered")

    @app.errorhandler(Refusal)
    def refusal(error):
        kind = {401: "authentication_error", 404: "not_found_error"}.get(error.status, "invalid_request_error")
        return jsonify(error={"message": str(error), "type": kind, "param": None, "code": error.status}), error.status

    @app.errorhandler(HTTPException)
    def http_error(error):
        return refusal(Refusal(error.code, error.description))

    @app.after_request
    def write_log(response):
        if log:
            line = {
                "time": round(time.time(), 3),
                "path": request.path,
                "kind": g.get("kind", "refused"),
                "status": response.status_code,
            }
            # one write of one short line: several processes may append
            with open(log, "ab", buffering=0) as file:
                file.write(json.dumps(line).encode() + b"\n")
        return response

    return app


def serve(app, listener: socket.socket, announce, certificate: Path | None = None, key: Path | None = None) -> None:
    """Serve on a listening socket until SIGTERM, with TLS where there is a certificate.

    `announce` is called once the server has answered a request.
    """
    from gunicorn.app.base import BaseApplication

    host, port = listener.getsockname()[:2]

    def announce_first(worker):
        # not before the fork: a thread that is just importing would leave the worker half a module
        if worker.age == 1:
            threading.Thread(
                target=announce_when_answering, args=(host, port, announce, certificate), daemon=True
            ).start()

    settings = {
        "bind": f"fd://{listener.detach()}",  # gunicorn closes it
        "worker_class": "gthread",
        "threads": 16,
        "graceful_timeout": 1,
        "timeout": 0,
        "loglevel": "warning",
        "post_worker_init": announce_first,
        "control_socket_disable": True,  # since gunicorn 24: a socket in the home folder otherwise
    }
    if certificate:
        settings |= {"certfile": str(certificate), "keyfile": str(key)}

    class Server(BaseApplication):
        def load_config(self):
            for name, value in settings.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self):
            return app

    Server().run()


def announce_when_answering(host: str, port: int, announce, certificate: Path | None) -> None:
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"{'https' if certificate else 'http'}://{f'[{target}]' if ':' in target else target}:{port}/health"
    handlers: list = [urllib.request.ProxyHandler({})]
    if certificate:  # of the published name, which isn't the one asked here
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        handlers.append(urllib.request.HTTPSHandler(context=context))
    direct = urllib.request.build_opener(*handlers)
    for _ in range(1000):
        try:
            direct.open(url, timeout=5).close()
        except OSError:
            time.sleep(0.01)
        else:
            announce()
            return


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m helpers.replay_server", description=__doc__.split("\n\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port; 0 = any free one (default)")
    parser.add_argument(
        "--served-name", action="append", metavar="NAME", help="a model name to answer to (default: replay)"
    )
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="write the port here once the server answers")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append a line of JSON for each request")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate (PEM) to serve https with")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    parser.epilog = "The token that requests must carry is read from MODEL_TOKEN; without one only loopback is served."
    args = parser.parse_args(argv)
    if bool(args.tls_cert) != bool(args.tls_key):
        parser.error("--tls-cert and --tls-key go together")
    return args


def fail(code: int, problem: object) -> int:
    print(f"replay server: {problem}", file=sys.stderr)
    return code


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    token = os.environ.get("MODEL_TOKEN")
    try:
        if not token and not is_loopback(args.host):
            raise OSError(f"--host {args.host} can be reached from other machines: set MODEL_TOKEN")
        for file in (args.tls_cert, args.tls_key):
            if file:
                file.open("rb").close()
        if args.log:
            args.log.open("a").close()
        app = create_app(args.served_name or ["replay"], token, args.log)
    except OSError as error:
        return fail(2, error)
    try:
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        listener = socket.create_server((args.host, args.port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        return fail(3, f"cannot listen on --host {args.host} --port {args.port}: {error}")
    port = listener.getsockname()[1]

    def announce() -> None:
        if args.ready_file:
            temporary = args.ready_file.with_name(f".{args.ready_file.name}.new")
            temporary.write_text(f"{port}\n")
            os.replace(temporary, args.ready_file)
        print(f"replay server: {'https' if args.tls_cert else 'http'}://{args.host}:{port}", flush=True)

    serve(app, listener, announce, args.tls_cert, args.tls_key)
    return 0


if __name__ == "__main__":
    sys.exit(main())
