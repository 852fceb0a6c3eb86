"""A Hugging Face Hub on the loopback, as far as huggingface_hub asks it to download a repository.

usage: fake_hub.py FOLDER      FOLDER/<owner>/<name>/ are repositories, with the one commit COMMIT and the branch main

Writes its port to FOLDER/port and a line for each request to FOLDER/requests: METHOD PATH RANGE TOKEN ("-" for none).
FOLDER/faults changes how it answers; lines of the form
  cut PATH BYTES TIMES    break the connection after BYTES of a file, the first TIMES times that it is asked for
  slow PATH               send a file at 100 kB/s
  claim PATH BYTES        say that a file is so large
  gated REPO | private REPO TOKEN | status REPO CODE
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOCK = Lock()
CUTS: dict[str, int] = {}


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        token = self.headers.get("Authorization", "-").removeprefix("Bearer ")
        with LOCK, (self.folder / "requests").open("a") as log:
            log.write(f"{self.command} {self.path} {self.headers.get('Range', '-')} {token}\n")
        parts = self.path.partition("?")[0].strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if len(parts) < 5:
            self.send(404)
            return
        if self.refuse(repo, token):
            return
        if parts[0] == "api":
            self.about(repo, parts[4], parts[5])
        else:
            self.file(repo, "/".join(parts[4:]))

    def refuse(self, repo: str, token: str) -> bool:
        if not (self.folder / repo).is_dir():
            self.send(401 if token == "-" else 404, {"X-Error-Code": "RepoNotFound"})
            return True
        for kind, name, *rest in self.faults():
            if name != repo or (kind == "private" and token == rest[0]):
                continue
            if kind in ("gated", "private", "status"):
                code = {"gated": "GatedRepo", "private": "RepoNotFound"}.get(kind)
                self.send(int(rest[0]) if kind == "status" else 401, {"X-Error-Code": code} if code else {})
                return True
        return False

    def about(self, repo: str, what: str, revision: str) -> None:
        if revision not in ("main", COMMIT):
            self.send(404, {"X-Error-Code": "RevisionNotFound"})
            return
        files = [path for path in sorted((self.folder / repo).rglob("*")) if path.is_file()]
        if what == "tree":
            listing = [{"type": "file", "oid": etag(path), **self.named(repo, path)} for path in files]
            self.send(200, body=json.dumps(listing).encode())
        else:
            siblings = [{"rfilename": self.named(repo, path)["path"]} for path in files]
            about = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings}
            self.send(200, body=json.dumps(about).encode())

    def named(self, repo: str, path: Path) -> dict[str, object]:
        name = str(path.relative_to(self.folder / repo))
        claims = [int(rest[0]) for kind, file, *rest in self.faults() if kind == "claim" and file == name]
        return {"path": name, "size": claims[0] if claims else path.stat().st_size}

    def file(self, repo: str, name: str) -> None:
        path = self.folder / repo / name
        content = path.read_bytes()
        size = self.named(repo, path)["size"]
        headers = {"ETag": f'"{etag(path)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if self.command == "HEAD":
            self.send(200, headers, length=int(str(size)))
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send(206 if start else 200, headers, length=len(content) - start)
        self.body(name, content[start:])

    def body(self, name: str, content: bytes) -> None:
        for kind, file, *rest in self.faults():
            if file != name:
                continue
            if kind == "cut" and self.counted(name) <= int(rest[1]):
                self.wfile.write(content[: int(rest[0])])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            if kind == "slow":
                for at in range(0, len(content), 10_000):
                    self.wfile.write(content[at : at + 10_000])
                    time.sleep(0.1)
                return
        self.wfile.write(content)

    def counted(self, name: str) -> int:
        with LOCK:
            CUTS[name] = CUTS.get(name, 0) + 1
            return CUTS[name]

    def faults(self) -> list[list[str]]:
        file = self.folder / "faults"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def send(
        self, code: int, headers: dict[str, str] | None = None, body: bytes = b"", length: int | None = None
    ) -> None:
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(body)


def etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    Hub.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    (Hub.folder / ".port").write_text(str(server.server_address[1]))
    (Hub.folder / ".port").rename(Hub.folder / "port")
    server.serve_forever()
