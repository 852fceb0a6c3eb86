"""A Hugging Face Hub on the loopback, as far as huggingface_hub asks it to make datasets, to take files of them and to give them out.

What it is asked is written down; what goes wrong is set by `faults`. Large files go the way of Git LFS with the transfer `basic`:
https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_" + "t0ken" * 8
SUFFIX = ".parquet"  # of files that go by LFS; others are part of the commit


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(json.dumps([len(self.commits), sorted(self.files)]).encode()).hexdigest()


@dataclass
class Hub:
    """What the server has, and how it is to fail. cut: bytes of a stored file (by its sha256) after which the connection breaks."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: set[tuple[bool, str]] = field(
        default_factory=set
    )  # whether it went to the storage, which is another service, and which
    cut: dict[str, int] = field(default_factory=dict)
    lose_answer: int = 0  # commits that are made, and whose answers get lost
    statuses: list[tuple[str, int]] = field(default_factory=list)  # the next requests of these paths are answered so
    lock: Lock = field(default_factory=Lock)
    url: str = ""

    def put(self) -> list[str]:
        """The files that were sent, in part or as a whole."""
        return [line.split()[1].rpartition("/")[2] for line in self.asked if line.startswith("PUT ")]


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self) -> None:
        path, _, _ = unquote(self.path).partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        with self.hub.lock:
            self.hub.asked.append(f"{self.command} {path}")
            self.hub.tokens.add((self.command == "PUT", self.headers.get("Authorization", "").removeprefix("Bearer ")))
            fault = next((one for one in self.hub.statuses if re.search(one[0], f"{self.command} {path}")), None)
            if fault:
                self.hub.statuses.remove(fault)
        if self.command == "PUT":
            self.store(path.rpartition("/")[2], length)
            return
        body = self.rfile.read(length)
        if fault:
            self.send(fault[1], {"error": "made to fail"})
            return
        with self.hub.lock:
            self.route(path, body)

    def store(self, oid: str, length: int) -> None:
        limit = self.hub.cut.get(oid)
        data = self.rfile.read(length if limit is None else min(limit, length))
        if limit is not None:
            self.close_connection = True
            self.connection.close()
            return
        assert hashlib.sha256(data).hexdigest() == oid
        with self.hub.lock:
            self.hub.stored[oid] = data
        self.send(200, {})

    def route(self, path: str, body: bytes) -> None:
        routes = [
            (r"POST /api/repos/create", self.create),
            (r"POST /api/validate-yaml", lambda _: self.send(200, {"errors": [], "warnings": []})),
            (r"GET /api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", self.about),
            (r"GET /api/datasets/([^/]+/[^/]+)/tree/([^/]+)", self.tree),
            (r"POST /api/datasets/([^/]+/[^/]+)/preupload/main", self.modes),
            (r"POST /datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            (r"POST /api/datasets/([^/]+/[^/]+)/commit/main", self.commit),
            (r"(?:GET|HEAD) /datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.file),
        ]
        for pattern, do in routes:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                self.body, self.found = body, found
                if found.re.groups and found[1] not in self.hub.repositories:
                    self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
                else:
                    do(self.hub.repositories.get(found[1]) if found.re.groups else None)
                return
        self.send(404, {"error": f"nobody serves {self.command} {path}"})

    def create(self, _: Any) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            self.send(409, {"error": "You already created this dataset repo"})
            return
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.hub.repositories[name] = Repository(private, {".gitattributes": b""})
        self.send(200, {"url": f"{self.hub.url}/datasets/{name}"})

    def has_revision(self, repo: Repository) -> bool:
        """Whether a dataset has the revision that is asked for; where it hasn't, that is the answer."""
        if self.found[2] in (None, "main", repo.sha):
            return True
        self.send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return False

    def about(self, repo: Repository) -> None:
        if not self.has_revision(repo):
            return
        siblings = [{"rfilename": name} for name in sorted(repo.files)]
        self.send(200, {"id": self.found[1], "sha": repo.sha, "private": repo.private, "siblings": siblings})

    def tree(self, repo: Repository) -> None:
        if not self.has_revision(repo):
            return
        listing = [
            {"type": "file", "path": name, "size": len(data), "oid": git_sha(data)}
            for name, data in sorted(repo.files.items())
        ]
        self.send(200, listing)

    def modes(self, repo: Repository) -> None:
        files = []
        for one in json.loads(self.body)["files"]:
            is_lfs = one["path"].endswith(SUFFIX)
            there = repo.files.get(one["path"])
            oid = there and (hashlib.sha256(there).hexdigest() if is_lfs else git_sha(there))
            files.append(
                {"path": one["path"], "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False, "oid": oid}
            )
        self.send(200, {"files": files})

    def batch(self, _: Repository) -> None:
        objects = []
        for one in json.loads(self.body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/put/{one['oid']}"}}
            objects.append({**one, **({} if one["oid"] in self.hub.stored else {"actions": actions})})
        self.send(200, {"transfer": "basic", "objects": objects})

    def commit(self, repo: Repository) -> None:
        lines = [json.loads(line) for line in self.body.splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.stored[value["oid"]]
            else:
                assert line["key"] == "header", f"the commit wants to {line['key']} {value}"
        repo.commits.append(
            {"summary": lines[0]["value"]["summary"], "paths": [one["value"]["path"] for one in lines[1:]]}
        )
        if self.hub.lose_answer:
            self.hub.lose_answer -= 1
            self.close_connection = True
            self.connection.close()
            return
        url = f"{self.hub.url}/datasets/{self.found[1]}/commit/{repo.sha}"
        self.send(200, {"success": True, "commitOid": repo.sha, "commitUrl": url})

    def file(self, repo: Repository) -> None:
        data = repo.files.get(self.found[2])
        if data is None:
            self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{git_sha(data)}"', "X-Repo-Commit": repo.sha, "Accept-Ranges": "bytes"}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0] or 0)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send(206 if start else 200, data[start:], headers)

    def send(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def git_sha(data: bytes) -> str:
    """https://git-scm.com/book/en/v2/Git-Internals-Git-Objects"""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Answers,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
