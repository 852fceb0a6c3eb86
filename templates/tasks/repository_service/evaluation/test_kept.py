import unittest

from client import Client


class Kept(unittest.TestCase):
    def test_notes_are_made_and_listed(self):
        client = Client()
        self.assertEqual(client.ask("GET", "/notes"), (200, []))
        self.assertEqual(client.add("milk"), (201, {"id": 1, "text": "milk"}))
        self.assertEqual(client.ask("GET", "/notes"), (200, [{"id": 1, "text": "milk"}]))

    def test_all_else(self):
        self.assertEqual(Client().ask("PUT", "/notes")[0], 405)
        self.assertEqual(Client().ask("GET", "/"), (404, {"error": "no such page"}))


if __name__ == "__main__":
    unittest.main()
