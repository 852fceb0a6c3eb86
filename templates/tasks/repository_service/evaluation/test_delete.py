import unittest

from client import Client


class Delete(unittest.TestCase):
    def test_it_is_gone(self):
        client = Client()
        client.add("milk")
        client.add("bread")
        self.assertEqual(client.ask("DELETE", "/notes/1"), (204, None))
        self.assertEqual(client.ask("GET", "/notes"), (200, [{"id": 2, "text": "bread"}]))
        self.assertEqual(client.ask("DELETE", "/notes/1"), (404, {"error": "no such note"}))

    def test_its_number_is_not_used_again(self):
        client = Client()
        client.add("milk")
        client.add("bread")
        client.ask("DELETE", "/notes/2")
        self.assertEqual(client.add("salt"), (201, {"id": 3, "text": "salt"}))


if __name__ == "__main__":
    unittest.main()
