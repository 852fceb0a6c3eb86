import unittest

from client import Client


class Refuse(unittest.TestCase):
    def test_what_holds_no_text(self):
        for body in (b"", b"milk", b"[]", b"{}", b'{"text": ""}', b'{"text": 3}', b"\xff"):
            client = Client()
            self.assertEqual(client.ask("POST", "/notes", body), (400, {"error": "text is missing"}), body)
            self.assertEqual(client.ask("GET", "/notes"), (200, []))


if __name__ == "__main__":
    unittest.main()
