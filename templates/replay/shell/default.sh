# What the replay model, which is not a language model, has a tool-calling shell agent do: one part an answer (helpers/serving/transcripts/
# shell.py). A file beside this one that is named like a task is for that task. A repository may also say what is to be done to it, in a
# file replay.sh at its top. Not more parts than the steps of that model in site-config/models.yaml.
# shellcheck shell=sh

#: I look at what is here.
pwd
ls -la
git log --oneline -n 3 2>/dev/null || true

#: I run the tests as they are.
if [ -d .git ]; then timeout 120 python3 -m pytest -q -x -p no:cacheprovider 2>&1 | tail -n 20; else echo 'no repository here'; fi

#: I do what a file of the repository prescribes, where there is one.
if [ -f replay.sh ]; then sh ./replay.sh; else echo 'nothing is prescribed here'; fi

#: I leave a note; where predictions are asked for, the sample is handed in.
cat >notes.md <<'END'
These notes were written by the replay model, which is not a language model: it ran a fixed list of commands.
END
if [ -r "${DATA_DIR:-/nonexistent}/sample_submission.csv" ]; then
  cp "$DATA_DIR/sample_submission.csv" "$SUBMISSION_DIR/submission.csv"
fi

#: I am done.
echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT
