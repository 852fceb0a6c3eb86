"""A web service of notes, kept in memory."""

import json
from wsgiref.simple_server import make_server


class Service:
    """The WSGI application."""

    def __init__(self):
        self.notes = {}

    def __call__(self, environ, start_response):
        status, answer = self.answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], self._body(environ))
        body = json.dumps(answer).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def answer(self, method, path, body):
        """The status and the data of an answer."""
        if path != "/notes":
            return "404 Not Found", {"error": "no such page"}
        if method == "GET":
            return "200 OK", list(self.notes.values())
        if method == "POST":
            return self._add(json.loads(body)["text"])
        return "405 Method Not Allowed", {"error": "not allowed"}

    def _add(self, text):
        number = len(self.notes) + 1
        self.notes[number] = {"id": number, "text": text}
        return "201 Created", self.notes[number]

    @staticmethod
    def _body(environ):
        return environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


if __name__ == "__main__":
    make_server("127.0.0.1", 8000, Service()).serve_forever()
