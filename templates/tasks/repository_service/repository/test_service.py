import io
import json
import unittest
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


class Notes(unittest.TestCase):
    def test_there_are_none_at_first(self):
        self.assertEqual(Client().ask("GET", "/notes"), (200, []))

    def test_one_that_is_made_is_listed(self):
        client = Client()
        self.assertEqual(client.add("milk"), (201, {"id": 1, "text": "milk"}))
        self.assertEqual(client.ask("GET", "/notes"), (200, [{"id": 1, "text": "milk"}]))

    def test_other_pages_are_not_there(self):
        self.assertEqual(Client().ask("GET", "/")[0], 404)


if __name__ == "__main__":
    unittest.main()
