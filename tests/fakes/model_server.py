"""A stand-in for somebody's OpenAI-compatible endpoint: model_server.py LOG [CERT KEY]

Listens on a free port of loopback, and prints it. The first part of a request's path says how it is answered: /401/v1/chat/completions
with 401 and the words of a real server; /401,answers/… the first time so, then with an answer. Every request gets a line in LOG: method,
path, Authorization, body.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Yes"}, "finish_reason": "length"}
# vLLM's, whose entries hold more than one id
MODELS = {
    "object": "list",
    "data": [
        {"id": "served/first", "object": "model", "permission": [{"id": "modelperm-1", "object": "model_permission"}]},
        {"id": "served/second", "object": "model", "permission": [{"id": "modelperm-2", "object": "model_permission"}]},
    ],
}
# as OpenAI, vLLM, DeepSeek, Anthropic, Gemini, LiteLLM and proxies were seen to word it: status, body ({key}: the key that was sent)
MANNERS = {
    "answers": (200, {"object": "chat.completion", "choices": [CHOICE], "usage": {"prompt_tokens": 9}}),
    "401": (401, {"error": {"message": "Incorrect API key provided: {key}.\nYou can find it.", "code": "invalid_api_key"}}),
    "402": (402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}),
    "403": (403, "<html>\r\n<head><title>403 Forbidden</title></head>\r\n</html>"),
    "404": (404, {"object": "error", "message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}),
    "429": (429, {"error": {"message": "Rate limit reached for requests", "type": "requests", "code": "rate_limit_exceeded"}}),
    "500": (500, {"error": {"message": "The server had an error while processing your request", "type": "server_error"}}),
    "503": (503, ""),
    "quota": (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
    "credit": (400, {"type": "error", "error": {"message": "Your credit balance is too low to access the API."}}),
    "budget": (400, {"error": {"message": "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0"}}),
    "gemini": (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}]),
    "reasoner": (400, {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model."}}),
    "html": (200, "<html>log in \x1b[31m here</html>"),
    "error": (200, {"error": {"message": "no worker"}}),
    "none": (200, {"choices": []}),
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply()

    def do_POST(self):
        self.reply()

    def reply(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        key = str(self.headers.get("Authorization"))
        with self.server.lock, open(sys.argv[1], "a", encoding="utf-8") as file:
            file.write(f"{self.command} {self.path} {key} {body}\n")
        # a proxy is asked with the whole address
        names, rest = urlsplit(self.path).path[1:].split("/", 1)
        if rest not in ("v1/models", "v1/chat/completions") or (self.command == "POST") != rest.endswith("completions"):
            return self.send(405, f"no {self.command} of {rest}")
        manners = names.split(",")
        with self.server.lock:
            count = self.server.counts[names] = self.server.counts.get(names, 0) + 1
        manner = manners[min(count, len(manners)) - 1]
        if manner == "hang":
            return threading.Event().wait(60)
        if manner == "endless":
            return self.send_endless()
        status, answer = MANNERS[manner]
        if status == 200 and rest == "v1/models" and manner == "answers":
            answer = MODELS
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return self.send(status, text.replace("{key}", key.removeprefix("Bearer ")))

    def send(self, status: int, text: str):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def send_endless(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 10000)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    lock = threading.Lock()
    counts: dict[str, int] = {}

    def handle_error(self, *_):
        pass  # clients don't wait for ever


def main() -> None:
    server = Server(("127.0.0.1", 0), Handler)
    if len(sys.argv) > 2:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[2:4])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_port, flush=True)
    server.serve_forever()


main()
