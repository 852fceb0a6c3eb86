# What the replay model, which is not a language model, has a tool-calling shell agent do with the example repository_library; default.sh says more.
# shellcheck shell=sh

#: I look at what is here.
pwd
ls -la

#: I apply the change that was prepared for this repository.
git apply <<'END'
diff --git a/intervals/__init__.py b/intervals/__init__.py
index e0b331b..b148fb4 100644
--- a/intervals/__init__.py
+++ b/intervals/__init__.py
@@ -1,5 +1,5 @@
 """Lists of half-open intervals of whole numbers."""
 
-from intervals.core import merge, total
+from intervals.core import gaps, merge, total
 
-__all__ = ["merge", "total"]
+__all__ = ["gaps", "merge", "total"]
diff --git a/intervals/core.py b/intervals/core.py
index 9adca79..81343c9 100644
--- a/intervals/core.py
+++ b/intervals/core.py
@@ -12,13 +12,19 @@ def merge(intervals):
     """The same numbers in as few intervals as possible, in their order."""
     merged = []
     for start, end in _checked(intervals):
-        if merged and start < merged[-1][1]:
+        if merged and start <= merged[-1][1]:
             merged[-1] = (merged[-1][0], max(merged[-1][1], end))
         else:
             merged.append((start, end))
     return merged
 
 
+def gaps(intervals):
+    """What lies between the intervals, in their order."""
+    merged = merge(intervals)
+    return [(before[1], after[0]) for before, after in zip(merged, merged[1:])]
+
+
 def total(intervals):
     """How many numbers lie in the intervals, each counted once."""
     return sum(end - start for start, end in merge(intervals))
diff --git a/tests/test_core.py b/tests/test_core.py
index 8db6925..9f75694 100644
--- a/tests/test_core.py
+++ b/tests/test_core.py
@@ -1,5 +1,5 @@
 import pytest
-from intervals import merge, total
+from intervals import gaps, merge, total
 
 
 def test_what_overlaps_is_one():
@@ -17,3 +17,11 @@ def test_each_number_counts_once():
 def test_an_empty_interval_is_refused():
     with pytest.raises(ValueError):
         merge([(3, 3)])
+
+
+def test_what_touches_is_one():
+    assert merge([(1, 3), (3, 5)]) == [(1, 5)]
+
+
+def test_gaps():
+    assert gaps([(6, 8), (1, 5)]) == [(5, 6)]
END

#: I look at the change.
git diff --stat

#: I leave a note.
cat >notes.md <<'END'
These notes were written by the replay model, which is not a language model: it ran a fixed list of commands.
END

#: I am done.
echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT
