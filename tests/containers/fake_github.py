"""GitHub and its git-LFS on the loopback, as far as mle-bench is downloaded from there.

usage: fake_github.py FOLDER CHECKOUT

CHECKOUT is what the archive of any commit holds; FOLDER/lfs/<sha256> are the LFS objects. Writes its port to FOLDER/port.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "RemoteAuth one-download"


class GitHub(BaseHTTPRequestHandler):
    folder: Path
    checkout: Path

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if match := re.fullmatch(r"/openai/mle-bench/archive/([0-9a-f]{40})\.tar\.gz", self.path):
            archive = io.BytesIO()
            with tarfile.open(fileobj=archive, mode="w:gz") as tar:
                tar.add(self.checkout, arcname=f"mle-bench-{match[1]}")
            self.send(200, archive.getvalue())
        elif (file := self.folder / self.path.strip("/")).is_file() and self.headers["Authorization"] == TOKEN:
            self.send(200, file.read_bytes())
        else:
            self.send(404, b"")

    def do_POST(self) -> None:
        kind = "application/vnd.git-lfs+json"
        if self.path != "/openai/mle-bench.git/info/lfs/objects/batch" or self.headers["Accept"] != kind:
            self.send(404, b"")
            return
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answers = []
        for item in asked["objects"]:
            if (self.folder / "lfs" / item["oid"]).is_file():
                href = f"http://{self.headers['Host']}/lfs/{item['oid']}"
                item["actions"] = {"download": {"href": href, "header": {"Authorization": TOKEN}}}
            else:
                item["error"] = {"code": 404, "message": "no such object"}
            answers.append(item)
        self.send(200, json.dumps({"objects": answers}).encode())

    def send(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    GitHub.folder, GitHub.checkout = Path(sys.argv[1]), Path(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), GitHub)
    (GitHub.folder / ".port").write_text(str(server.server_address[1]))
    (GitHub.folder / ".port").rename(GitHub.folder / "port")
    server.serve_forever()
