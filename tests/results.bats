# results.sh regrade and explain: real runs and gradings of the local twin, and what is submitted on Slurm.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  make_site local none
  DATA=$BATS_TEST_TMPDIR/data RUNS=$BATS_TEST_TMPDIR/runs
  "${HAB_CORE_PYTHON:-python3}" -m helpers.tasks.cli generate-data classification_basic "$DATA" --seed 1 >/dev/null
}

teardown() { end_local_jobs; }

results() { try "$ROOT/scripts_hpc/results.sh" "$@" --site "$SITE_FILE"; }
score() { # a scored run: sets RUN
  "$ROOT/scripts_hpc/run_workflow.sh" classification_basic --agent baseline "$@" --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/out" 2>&1 || {
    cat "$BATS_TEST_TMPDIR/out"
    return 1
  }
  RUN=$(find "$RUNS" -name 'classification_basic_2')
}
in_record() { # in_record TEXT…
  local text
  for text in "$@"; do expect_in "$text" "$(<"$RUN/run_metadata.json")"; done
}
nothing_left() { [[ -z $(local_processes) ]] && [[ -z $(find "$BATS_TEST_TMPDIR/addresses" -maxdepth 1 -type f) ]]; }

made() { # a run as it is when it was scored, made by hand: sets RUN
  RUN=$RUNS/2026-01-02T03-04-05-UTC_run-group_baseline/classification_basic_2
  mkdir -p "$RUN/submission"
  cp "$DATA/classification_basic/prepared/public/sample_submission.csv" "$RUN/submission/submission.csv"
  local sum data
  sum=$(sha256sum <"$RUN/submission/submission.csv")
  data=$(sed -n 's/.*"data_fingerprint": *"\([0-9a-f]*\)".*/\1/p' "$DATA/classification_basic/prepared/fingerprint.json")
  echo '{"jobs": {"agents": ["2"]}, "competition": "classification_basic"}' >"${RUN%/*}/workflow.json"
  echo '{"total_score": 0.5, "valid_submission": true, "created_at": "2026-01-02T03:05:05Z"}' >"$RUN/grading_report.json"
  cat >"$RUN/run_metadata.json" <<JSON
{"state": "scored", "reason": "graded", "competition": "classification_basic", "job_id": "2", "data_fingerprint": "$data", "submission_sha256": "${sum%% *}"}
JSON
}

@test "a scored run is graded again: the same, both grades in its record, and its result is what it was" {
  score
  local first sum
  first=$(<"$RUN/grading_report.json")
  sum=$(sha256sum "$RUN/submission/submission.csv")
  in_record '"state": "scored"' "\"submission_sha256\": \"${sum%% *}\""
  results regrade "$RUN"
  expect_status 0
  expect_in "$RUN: graded again at 20" "$output"
  expect_in ', by job 4: the same (score 0.' "$output"
  [[ $(<"$RUN/grading_report.json") == "$first" && -f $RUN/grading_report_4.json ]]
  in_record '"state": "scored"' '"reason": "graded"' '"job_id": "2"' '"grades": [{"job": "2", "at": "20' '"report": "grading_report.json"}, {"job": "4", "at": "20' \
    '"report": "grading_report_4.json"}]'
  wait_for 10 nothing_left
  # once more, while the submission that lies there is another one by now
  cp "$RUN/submission/submission.csv" "$BATS_TEST_TMPDIR/kept"
  echo other >"$RUN/submission/submission.csv"
  results regrade "$RUN"
  expect_status 2
  expect_in "$RUN can't be graded again: $RUN/submission/submission.csv isn't what was there at the run's end (another sha256)" "$error"
  cp "$BATS_TEST_TMPDIR/kept" "$RUN/submission/submission.csv"
  results explain "$RUN"
  expect_status 0
  expect_in 'submission/submission.csv, graded here by the answers in' "$output"
  expect_in "the agent's time in ../logs/agent_baseline-2.out" "$output"
  [[ -z $error ]]
  # another first grade than the grader gives
  sed -i 's/"total_score": 0\.[0-9]*/"total_score": 0.99/' "$RUN/grading_report.json"
  results explain 2 --json
  expect_status 3
  expect_in "explain: $RUN: score: 0.99 (grading_report.json: total_score, of a scored run), derived anew: 0." "$error"
  results regrade "${RUN%/*}" --json
  expect_status 1
  expect_in '"exit_code": 1' "$output"
  expect_in 'by job 6: DIFFERS: total_score 0.' "$output"
  expect_in '(grading_report_6.json), at first 0.99 (grading_report.json); its result stays the first one' "$output"
  in_record '{"job": "2", ' '{"job": "4", ' '{"job": "6", '
  # one that comes to nothing takes nothing from the run
  results regrade "$RUN" --set paths.scratch=/proc/nowhere
  expect_status 3
  expect_in 'not graded again, by job 8: lost: ' "$output"
  refuse grep -q 'jobs.sh grade' <<<"$output"
  in_record '"state": "scored"' '"reason": "graded"' '"job": "8", "at": "20' '"state": "lost"' '{"job": "6", '
  [[ ! -e $RUN/grading_report_8.json ]]
  # told again by whoever attaches
  try "$ROOT/scripts_hpc/jobs.sh" attach "$(find "$RUNS" -maxdepth 1 -name '*_grade' | sort | sed -n 2p)" --site "$SITE_FILE"
  expect_status 1
}

@test "what can't be graded again: a sentence, exit 2, and nothing is made" {
  made
  sed -i 's/"scored"/"lost"/' "$RUN/run_metadata.json"
  results regrade "$RUN"
  expect_status 2
  expect_in "$RUN can't be graded again: it is lost (graded): only what was scored is graded again." "$error"
  made
  sed -i 's/"data_fingerprint": "/&0/' "$RUN/run_metadata.json"
  results regrade "$RUN"
  expect_status 2
  expect_in "$RUN can't be graded: it ran on other data" "$error"
  results regrade a b
  expect_status 2
  results explain a b
  expect_status 2
  [[ $(ls "$RUNS") == 2026-01-02T03-04-05-UTC_run-group_baseline ]]
}

@test "on Slurm: a grading server and a job for the run, which waits for it" {
  made
  PATH=$ROOT/tests/fakes/slurm:$PATH
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm
  mkdir "$FAKE_SLURM"
  results regrade "$RUN" --detach --set scheduler.kind=slurm
  expect_status 0
  local folder=$output
  [[ $(tr -d ' \n' <"$folder/grading.json") == *'"again":[true],'* ]]
  expect_in "EARLIER_GRADES='{\"job\": \"2\", \"at\": \"2026-01-02T03:05:05Z\", \"state\": \"scored\"" "$(<"$folder/jobs/order_0")"
  diff <(grep ^sbatch "$FAKE_SLURM/calls") <(
    echo "sbatch --parsable grading_server.sh classification_basic"
    echo "sbatch --parsable --dependency=after:101 --kill-on-invalid-dep=yes grade.sh auto:101 0 1"
  )
  # several: arrays, as long as the cluster takes them, one after the other
  local number one
  for number in 3 4; do
    one=${RUN%_2}_$number
    cp -r "$RUN" "$one"
    sed -i "s/\"job_id\": \"2\"/\"job_id\": \"$number\"/" "$one/run_metadata.json"
  done
  rm "$FAKE_SLURM/calls"
  results regrade "${RUN%/*}" --detach --set scheduler.kind=slurm --set limits.max_array_size=2
  expect_status 0
  diff <(grep ^sbatch "$FAKE_SLURM/calls") <(
    echo "sbatch --parsable grading_server.sh classification_basic"
    echo "sbatch --parsable --dependency=after:103 --kill-on-invalid-dep=yes --array=0-1%2 grade.sh auto:103 0 2"
    echo "sbatch --parsable --dependency=after:103,afterany:104 --kill-on-invalid-dep=yes --array=0-0%1 grade.sh auto:103 2 1"
  )
  grep -q -- '--output=.*/%x-%A_%a.out' "$output/jobs/grade.sh"
}
