# What the replay model, which is not a language model, has a tool-calling shell agent do with the example repository_script; default.sh says more.
# shellcheck shell=sh

#: I look at what is here.
pwd
ls -la

#: I apply the change that was prepared for this repository.
git apply <<'END'
diff --git a/words.py b/words.py
index 2546a23..f4322e1 100644
--- a/words.py
+++ b/words.py
@@ -2,12 +2,13 @@
 
 import argparse
 import re
+import sys
 
 
 def count(text):
     """How often each word is in a text, in the order of their first appearance."""
     counts = {}
-    for word in re.findall(r"[^\W\d_]+", text):
+    for word in re.findall(r"[^\W\d_]+", text.lower()):
         counts[word] = counts.get(word, 0) + 1
     return counts
 
@@ -15,12 +16,20 @@ def count(text):
 def main():
     parser = argparse.ArgumentParser(description=__doc__)
     parser.add_argument("file")
+    parser.add_argument("--top", type=int, metavar="N")
     options = parser.parse_args()
-    with open(options.file, encoding="utf-8") as file:
-        counts = count(file.read())
-    for word, number in counts.items():
+    try:
+        with open(options.file, encoding="utf-8") as file:
+            counts = list(count(file.read()).items())
+    except FileNotFoundError:
+        print(f"words.py: {options.file}: no such file", file=sys.stderr)
+        return 2
+    if options.top is not None:
+        counts = sorted(counts, key=lambda pair: (-pair[1], pair[0]))[: options.top]
+    for word, number in counts:
         print(number, word)
+    return 0
 
 
 if __name__ == "__main__":
-    main()
+    sys.exit(main())
END

#: I look at the change.
git diff --stat

#: I leave a note.
cat >notes.md <<'END'
These notes were written by the replay model, which is not a language model: it ran a fixed list of commands.
END

#: I am done.
echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT
