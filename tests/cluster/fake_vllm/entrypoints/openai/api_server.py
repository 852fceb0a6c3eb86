"""vLLM's server as far as the job script sees it: it takes its port at once, but listens only when the model has loaded.

The model, a folder, has loaded when a file `go` is in it. Options that the job script doesn't give are refused.
"""

import argparse
import http.server
import json
import os
import ssl
import time


class Handler(http.server.BaseHTTPRequestHandler):
    names: list[str] = []

    def _send(self, code: int, body: dict) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _trusted(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {os.environ['VLLM_API_KEY']}":
            return True
        self._send(401, {"error": "Unauthorized"})
        return False

    def do_GET(self) -> None:
        if self._trusted():
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.names]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._trusted():
            return
        if asked["model"] not in self.names:
            self._send(404, {"error": {"message": f"The model `{asked['model']}` does not exist.", "code": 404}})
            return
        message = {"role": "assistant", "content": "pong"}
        choices = [{"index": 0, "message": message, "finish_reason": "length"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self._send(200, {"object": "chat.completion", "model": asked["model"], "choices": choices, "usage": usage})


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for option in ("--model", "--host", "--ssl-keyfile", "--ssl-certfile", "--max-model-len"):
        parser.add_argument(option, required=True)
    parser.add_argument("--gpu-memory-utilization")
    parser.add_argument("--tensor-parallel-size")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", nargs="+", required=True)
    options = parser.parse_args()
    Handler.names = options.served_model_name
    server = http.server.ThreadingHTTPServer((options.host, options.port), Handler, bind_and_activate=False)
    server.server_bind()
    while not os.path.exists(f"{options.model}/go"):
        time.sleep(0.05)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.server_activate()
    server.serve_forever()


main()
