# What the replay model, which is not a language model, has a tool-calling shell agent do with the example repository_service; default.sh says more.
# shellcheck shell=sh

#: I look at what is here.
pwd
ls -la

#: I apply the change that was prepared for this repository.
git apply <<'END'
diff --git a/service.py b/service.py
index b85a326..00ffc2b 100644
--- a/service.py
+++ b/service.py
@@ -9,27 +9,47 @@ class Service:
 
     def __init__(self):
         self.notes = {}
+        self.last = 0
 
     def __call__(self, environ, start_response):
         status, answer = self.answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], self._body(environ))
-        body = json.dumps(answer).encode()
+        body = b"" if answer is None else json.dumps(answer).encode()
         start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
         return [body]
 
     def answer(self, method, path, body):
         """The status and the data of an answer."""
+        if path.startswith("/notes/"):
+            return self._one(method, path[len("/notes/") :])
         if path != "/notes":
             return "404 Not Found", {"error": "no such page"}
         if method == "GET":
             return "200 OK", list(self.notes.values())
         if method == "POST":
-            return self._add(json.loads(body)["text"])
+            return self._add(body)
         return "405 Method Not Allowed", {"error": "not allowed"}
 
-    def _add(self, text):
-        number = len(self.notes) + 1
-        self.notes[number] = {"id": number, "text": text}
-        return "201 Created", self.notes[number]
+    def _one(self, method, name):
+        note = next((note for number, note in self.notes.items() if str(number) == name), None)
+        if note is None:
+            return "404 Not Found", {"error": "no such note"}
+        if method == "GET":
+            return "200 OK", note
+        if method == "DELETE":
+            del self.notes[note["id"]]
+            return "204 No Content", None
+        return "405 Method Not Allowed", {"error": "not allowed"}
+
+    def _add(self, body):
+        try:
+            text = json.loads(body)["text"]
+        except (ValueError, KeyError, TypeError):
+            text = None
+        if not isinstance(text, str) or not text:
+            return "400 Bad Request", {"error": "text is missing"}
+        self.last += 1
+        self.notes[self.last] = {"id": self.last, "text": text}
+        return "201 Created", self.notes[self.last]
 
     @staticmethod
     def _body(environ):
END

#: I look at the change.
git diff --stat

#: I leave a note.
cat >notes.md <<'END'
These notes were written by the replay model, which is not a language model: it ran a fixed list of commands.
END

#: I am done.
echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT
