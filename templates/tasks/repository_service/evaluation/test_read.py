import unittest

from client import Client


class Read(unittest.TestCase):
    def test_one_note(self):
        client = Client()
        client.add("milk")
        client.add("bread")
        self.assertEqual(client.ask("GET", "/notes/2"), (200, {"id": 2, "text": "bread"}))

    def test_none(self):
        for path in ("/notes/1", "/notes/0", "/notes/x", "/notes/-1"):
            self.assertEqual(Client().ask("GET", path), (404, {"error": "no such note"}), path)


if __name__ == "__main__":
    unittest.main()
