import io
import json
from wsgiref.util import setup_testing_defaults

from service import Service


class Client:
    """Asks a service as a server would, without any network."""

    def __init__(self):
        self.service = Service()

    def ask(self, method, path, body=b""):
        """Status code and body of an answer."""
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "CONTENT_LENGTH": str(len(body)), "QUERY_STRING": ""}
        environ["wsgi.input"] = io.BytesIO(body)
        setup_testing_defaults(environ)
        told = []
        answer = self.service(environ, lambda status, headers, _=None: told.append(status))
        text = b"".join(answer)
        return int(told[0].split()[0]), json.loads(text) if text else None

    def add(self, text):
        return self.ask("POST", "/notes", json.dumps({"text": text}).encode())
