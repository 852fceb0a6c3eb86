# run_benchmark.sh on one machine: a round of several tasks and agents, what it leaves, and what is refused before anything starts.
bats_require_minimum_version 1.5.0

setup_file() { export BATS_TEST_TIMEOUT=300; } # some run several rounds

setup() {
  load common.bash
  make_site local none
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT} HPC_SITE=$SITE_FILE
  # the tasks are prepared once for all
  [[ $BATS_TEST_NUMBER == 1 ]] || cp -r "$BATS_FILE_TMPDIR/data/"*_basic "$BATS_TEST_TMPDIR/data/" 2>/dev/null || true
  cd "$BATS_TEST_TMPDIR"
}

teardown() {
  end_local_jobs
  check_records "$BATS_TEST_TMPDIR"/data/rollouts/*/*
}

benchmark() { try "$ROOT/scripts_hpc/run_benchmark.sh" "$@"; }
round() { compgen -G "$BATS_TEST_TMPDIR/data/rollouts/${1:-mixed}/*"; }
config() { cat >mixed.toml; }

mixed() {
  config <<'TOML'
parallel = 2

[[tasks]]
tasks = ["classification_basic", "regression_basic"]
agent = "baseline"
rollouts = 2

[[tasks]]
prepared_dir = "data/classification_basic/prepared"
agent = "baseline"
environment_variables = { "NOTE" = "a b", "TIMEOUT_SEC" = "60" }
TOML
}

@test "a round: all are graded, at most \`parallel\` at once, and the specification's files and lines are there" {
  mixed
  benchmark run mixed.toml
  expect_status 0
  cp -r "$BATS_TEST_TMPDIR/data" "$BATS_FILE_TMPDIR/"
  [[ $(round | wc -l) == 1 ]]
  local round stamp
  round=$(round) stamp=${round##*/}
  [[ $error == *"[rollouts] config=mixed.toml name=mixed tasks=2 parallel=2
[rollouts] output=$round
[rollouts] Running in quiet mode - use -vv for full output
[rollouts] Starting 5 tasks with parallel=2"* ]]
  expect_in "✓ Task $stamp-4 completed (launched)" "$error"
  expect_in "✓ All 5 tasks completed!
[rollouts] temp index: $BATS_TEST_TMPDIR/data/rollouts/temp/rollout_mixed__$stamp.json
[rollouts] Summary:" "$error"
  expect_in "| task | run_id | status |" "$output"
  expect_in "| regression_basic | $stamp-3 | launched |" "$output"
  expect_in "5 asked for: 5 graded" "$output"
  # the specification's own analysis
  try python3 - "$round" <<'PY'
import json, sys
from pathlib import Path
rollout_dir = Path(sys.argv[1])
manifest = json.loads((rollout_dir / "manifest.json").read_text())
for result in manifest["results"]:
    run_dir = Path(result["run_dir"])
    if (run_dir / "evaluation_results.json").exists():
        eval_data = json.loads((run_dir / "evaluation_results.json").read_text())
        assert eval_data["run_id"] == result["run_id"] and eval_data["total_score"] == result["score"]
        print(f"Score: {eval_data.get('total_score', 'N/A')}", result["state"], result["status"], result["attempts"])
PY
  [[ $(grep -c '^Score: 0\.[0-9]* scored launched 1$' <<<"$output") == 5 ]]
  [[ $(wc -l <"$round/runs.txt") == 5 && $(tail -n 1 "$round/runs.txt") == "$BATS_TEST_TMPDIR/data/runs/$stamp-4" ]]
  [[ -d $BATS_TEST_TMPDIR/data/runs/$stamp-0/submission && $(readlink "$round/claims/4") == *_4 ]]
  # the last one is a cell of its own, with its variable and its time
  grep -q "ROLLOUT=4 .*VARIABLES=('NOTE=a b')" "$round/parts/0"
  grep -q '"time_limit_seconds": 60,' "$round"/classification_basic_*_4/run_metadata.json
  # nobody is left who would use the servers
  [[ -z $(local_processes) && -z $(ls "$BATS_TEST_TMPDIR"/addresses | grep -v local_jobs) ]]

  try "$ROOT/scripts_hpc/jobs.sh" status "$stamp-2"
  expect_status 2
  try "$ROOT/scripts_hpc/jobs.sh" status "mixed/$stamp"
  expect_status 0
  expect_in "classification_basic / baseline" "$output"
  try "$ROOT/scripts_hpc/jobs.sh" why "$BATS_TEST_TMPDIR/data/runs/$stamp-2"
  expect_status 0
  try "$ROOT/scripts_hpc/results.sh" export "$round" --json
  expect_status 0
  [[ $(grep -c '"state": "scored"' <<<"$output") == 5 ]]

  benchmark summarize mixed --latest
  expect_status 0
  [[ $output == "$(<"$round/summary.md")" ]]
  expect_in '| classification_basic | baseline' "$output"
  benchmark summarize mixed --rollout 1999
  expect_status 2
  expect_in "benchmark 'mixed' has no round 1999. There are: $stamp" "$error"
  benchmark summarize mixxed
  expect_status 2
  expect_in "no rounds of a benchmark 'mixxed'" "$error"
  expect_in 'There are: mixed.' "$error"
  benchmark compare mixed "mixed/$stamp"
  expect_status 0
  try env SANDBOX_BACKEND=modal python -m helpers.eval_rollouts run mixed.toml
  expect_status 2
  expect_in 'SANDBOX_BACKEND=modal: agents run in Apptainer containers' "$error"
  try python "$ROOT/helpers/eval_rollouts.py" summarize mixed --latest
  expect_status 0
  expect_in '5 asked for: 5 graded' "$output"
}

@test "everything that is wrong is said at once, with its place, and nothing is made" {
  config <<'TOML'
[models]
"gpt-4" = "replay"
"typo" = "reply"

[budget]
tokens = 5
usd = 1.5

[[tasks]]
task = "nothere"
model = "gpt-4"
agent = "adie"

[[tasks]]
prepared_dir = "/elsewhere/toy"
model = "typo"
time_limit = 90000

[[tasks]]
task = "classification_basic"
model = "gpt-mini"
TOML
  benchmark run mixed.toml
  expect_status 2
  expect_in "mixed.toml: budget: usd: model 'gpt-mini' has no prices: set its usd_per_million_prompt_tokens" "$error"
  expect_in "mixed.toml: [[tasks]] 1: agent 'adie'" "$error"
  expect_in "mixed.toml: [[tasks]] 2: prepared_dir: /elsewhere/toy doesn't lie in $BATS_TEST_TMPDIR/data" "$error"
  expect_in "mixed.toml: [[tasks]] 2: model 'reply'" "$error"
  expect_in "mixed.toml: [[tasks]] 2: the agent's job may take" "$error"
  expect_in "competition 'nothere' isn't prepared" "$error"
  [[ -z $(ls "$BATS_TEST_TMPDIR/data" | grep -v _basic) && ! -e $BATS_TEST_TMPDIR/runs ]]
}

@test "a dry run shows the jobs and makes nothing; a name for a model comes from the command too" {
  config <<'TOML'
[[tasks]]
task = "classification_basic"
models = ["gpt-4", "replay"] # the same one
rollouts = 4
TOML
  benchmark run mixed.toml --model gpt-4=replay --dry-run
  expect_status 0
  expect_in 'benchmark mixed, 1 task(s), 1 pair(s) of agent and model, 1 at once, nothing is submitted' "$output"
  expect_in '4 rollout(s)' "$output"
  [[ -z $(ls "$BATS_TEST_TMPDIR/data" | grep -v _basic) ]]
  benchmark run mixed.toml --model gpt-4
  expect_status 2
  expect_in 'gpt-4: must be NAME=MODEL' "$error"
  benchmark run nothere.toml
  expect_status 2
  expect_in 'nothere.toml: there is no such file' "$error"
  benchmark walk mixed.toml
  expect_status 2
  expect_in "unknown verb 'walk': run, resume, attach, summarize, eval or compare" "$error"
}

@test "Ctrl-C ends the round; what had ended keeps its result, and another round has another stamp" {
  config <<'TOML'
[[tasks]]
task = "classification_basic"
agent = "baseline"
rollouts = 6
TOML
  set -m
  "$ROOT/scripts_hpc/run_benchmark.sh" run mixed.toml >out 2>err &
  pid=$!
  set +m
  wait_for 60 grep -q 'completed (launched)' err
  kill -INT -- "-$pid"
  status=0
  wait "$pid" || status=$?
  expect_status 130
  local round
  round=$(round)
  [[ $(grep -c '"state": "cancelled"' "$round/manifest.json") -ge 3 && $(grep -c '"state": "scored"' "$round/manifest.json") -ge 1 ]]
  expect_in '6 asked for' "$(<out)"
  [[ -z $(local_processes) ]]
  benchmark run mixed.toml --detach
  expect_status 0
  [[ $output == */rollouts/mixed/* && $output != "$round" && $(round | wc -l) == 2 ]]
  round=$output
  benchmark attach "$round" -vv
  expect_status 0
  expect_in '[rollouts] finished: run_id=' "$error"
  local number
  for number in {0..5}; do grep -q "^\[${round##*/}-$number\] ." <<<"$error"; done
  expect_in ': scored: graded' "$error"
  refuse expect_in '✓' "$error"
}

@test "resume while the round is at work runs nothing twice and says so at once; attach takes a folder as it is typed" {
  config <<'TOML'
[[tasks]]
task = "classification_basic"
agent = "baseline"
rollouts = 2
TOML
  benchmark run mixed.toml --detach
  expect_status 0
  local round=$output began=$SECONDS before
  before=$(<"$round/jobs/submitted")
  benchmark resume mixed
  expect_status 2
  expect_in 'nothing is left to be run' "$error"
  expect_in '2 have a job' "$error"
  ((SECONDS - began < 30))
  [[ $(<"$round/jobs/submitted") == "$before" ]]
  cd "$round"
  benchmark attach .
  expect_status 0
  [[ $(grep -c "\"run_dir\": \"$BATS_TEST_TMPDIR/data/runs/" manifest.json) == 2 && $(grep -c '"state": "scored"' manifest.json) == 2 ]]
}

@test "of a detached round that nobody watches, manifest.json is true from the first second to the last" {
  config <<'TOML'
parallel = 1
[[tasks]]
tasks = ["classification_basic", "regression_basic"]
agent = "baseline"
TOML
  benchmark run mixed.toml --detach
  expect_status 0
  local round=$output
  listed() { [[ $(grep -c "\"$1\": $2,\?$" "$round/manifest.json") == "$3" ]]; } # listed KEY VALUE TIMES
  listed status '"launched"' 2
  wait_for 60 listed state '"running"' 1
  listed attempts 1 1
  wait_for 60 listed state '"scored"' 1
  wait_for 90 listed state '"scored"' 2
  listed attempts 1 2
  listed launch_rc 0 2
  wait_for 30 eval '[[ -z $(local_processes) ]]'
  local told
  told=$(<"$round/manifest.json")
  [[ -z $(find "$round" -maxdepth 1 -name '.manifest*') ]]
  # whoever looks now finds nothing to mend
  for look in "jobs.sh status $round" "run_benchmark.sh summarize mixed"; do
    try "$ROOT"/scripts_hpc/$look
    expect_status 0
    [[ $(<"$round/manifest.json") == "$told" ]]
  done
  # what isn't true any more is mended by who looks
  sed -i 's/"state": "scored"/"state": "running"/; s/"score": 0/"score": 7/' "$round/manifest.json"
  try python -c 'import sys; from helpers.eval_rollouts import load_benchmark; load_benchmark(sys.argv[1])' "$round"
  expect_status 0
  [[ $(<"$round/manifest.json") == "$told" ]]
}

@test "results.sh watch shows a round until it is over; Ctrl-C ends the view alone" {
  config <<'TOML'
[[tasks]]
task = "classification_basic"
agent = "baseline"
rollouts = 2
TOML
  benchmark run mixed.toml --detach
  expect_status 0
  local round=$output
  try timeout --preserve-status --signal=INT 1.5 "$ROOT/scripts_hpc/results.sh" watch mixed
  expect_status 130
  try "$ROOT/scripts_hpc/results.sh" watch "mixed/${round##*/}"
  expect_status 0
  expect_in ' classification_basic / baseline: 2 of 2 graded, mean 0.' "$output"
  expect_in '2 asked for: 2 graded, 0 failed' "$output"
  try "$ROOT/scripts_hpc/results.sh" watch mixxed
  expect_status 2
  expect_in "no rounds of a benchmark 'mixxed'" "$error"
}

@test "resume runs what has no result, tries again what was lost, and repeats nothing" {
  config <<'TOML'
parallel = 2
retries = 1
[[tasks]]
task = "classification_basic"
agent = "baseline"
rollouts = 3
TOML
  benchmark run mixed.toml --detach
  expect_status 0
  local round=$output number first runner
  round_is() { [[ $(grep -c "\"state\": \"$1\"" "$round"/classification_basic_*/run_metadata.json | awk -F: '{ n += $2 } END { print n }') -ge $2 ]]; }
  wait_for 60 round_is running 1
  # an agent's job is killed with all that it has, and the rest is cancelled
  number=$(basename "$(dirname "$(grep -l '"state": "running"' "$round"/classification_basic_*/run_metadata.json | head -n 1)")")
  first=${number#classification_basic_}
  runner=$(cut -d' ' -f1 "$BATS_TEST_TMPDIR/addresses/local_jobs/$first/pid")
  for pid in "$runner" $(pgrep -P "$runner") $(grep -lzxFs "HAB_LOCAL_JOB=$BATS_TEST_TMPDIR/addresses/local_jobs/$first" /proc/[0-9]*/environ | cut -d/ -f3); do kill -KILL "$pid" 2>/dev/null || true; done
  try "$ROOT/scripts_hpc/jobs.sh" stop "$round"
  expect_status 0
  # which no job could tell
  [[ $(grep -c '"state": "lost"' "$round/manifest.json") == 1 && $(grep -c '"state": "\(waiting\|running\)"' "$round/manifest.json") == 0 ]]
  benchmark resume mixed --dry-run
  expect_status 0
  expect_in 'are run now' "$output"
  local -A before=()
  for number in 0 1 2; do before[$number]=$(readlink "$round/claims/$number" || true); done
  benchmark resume mixed --json
  expect_status 0
  python3 -c 'import json, sys; told = json.loads(sys.argv[1]); assert (told["round"], told["exit_code"], told["graded"]) == (sys.argv[2], 0, 3), told' \
    "$output" "$round"
  [[ $(grep -c '"state": "scored"' "$round/manifest.json") == 3 ]]
  # claims are never taken back
  for number in 0 1 2; do [[ -z ${before[$number]} || $(readlink "$round/claims/$number") == "${before[$number]}" ]]; done
  [[ $(readlink "$round"/claims/*.1 | wc -l) -ge 1 ]]
  [[ -z $(local_processes) ]]
  benchmark resume mixed
  expect_status 2
  expect_in 'nothing is left to be run' "$error"
  expect_in '3 have a result' "$error"
}

@test "a budget that is used up: no more begins, the summary says so, and resume goes on with a larger one only" {
  config <<'TOML'
[budget]
tokens = 10
usd = 5

[[tasks]]
task = "classification_basic"
model = "replay"
rollouts = 4
tokens = 100000
TOML
  export HPC_MODELS__REPLAY='{steps: 1, usd_per_million_prompt_tokens: 2, usd_per_million_completion_tokens: 10}'
  benchmark run mixed.toml
  expect_status 130
  local round used
  round=$(round)
  [[ $(cd "$round/claims" && ls) == 0 && $(ls "$round/ends") == 0.*.scored.* ]]
  used=$(ls "$round/ends") used=${used%.*} used=${used##*.}
  ((used > 10))
  expect_in "stopped: the budget of 10 tokens is used up ($used); 3 rollouts not begun" "$output"
  expect_in "stopped: the budget of 10 tokens is used up ($used); 3 rollouts not begun" "$(<"$round/summary.md")"
  expect_in '4 asked for: 1 graded, 0 failed, 3 that count nowhere. By state: 3 cancelled, 1 scored.' "$output"
  [[ $(grep -c '"state": "cancelled"' "$round/manifest.json") == 3 && $(grep -c '"state": "scored"' "$round/manifest.json") == 1 ]]
  [[ $(grep -l "\"reason\": \"not begun: the budget of 10 tokens is used up ($used)\"" "$round"/*/run_metadata.json | wc -l) == 3 ]]
  [[ -z $(local_processes) && -z $(ls "$BATS_TEST_TMPDIR"/addresses | grep -v local_jobs) ]]
  grep -q ' TOKEN_LIMIT=100000' "$round/parts/0"
  # what was used is known of all that began, money too
  benchmark summarize "$round" --json
  expect_status 0
  try python3 - "$used" <<PY
import json, sys
told, tokens = json.loads(r'''$output''')["used"], int(sys.argv[1])
assert told["tokens"] == {"sum": tokens, "known": 1, "of": 1}, told
assert 2e-6 * tokens <= told["usd"]["sum"] <= 1e-5 * tokens, told
PY
  expect_status 0
  benchmark resume mixed
  expect_status 2
  expect_in "the budget of 10 tokens is used up ($used): run the benchmark anew, or let this round use more, with --budget tokens=NUMBER" "$error"
  benchmark resume mixed --budget steps=3
  expect_status 2
  expect_in 'steps=3: must be KEY=NUMBER' "$error"
  benchmark resume mixed --budget tokens=1000000
  expect_status 0
  expect_in '4 asked for: 4 graded' "$output"
  refuse expect_in 'stopped:' "$output"
  [[ $(ls "$round/ends" | wc -l) == 4 && $(grep -c '"state": "scored"' "$round/manifest.json") == 4 ]]
}

@test "a round whose agents never start ends by itself" {
  config <<'TOML'
[[tasks]]
task = "classification_basic"
agent = "baseline"
rollouts = 7
TOML
  # what each of its jobs finds when it has begun
  cat >"$BATS_TEST_TMPDIR/env.sh" <<SH
if [[ \${0##*/} == agent*.sh ]]; then rm -rf "$BATS_TEST_TMPDIR/data/classification_basic/prepared/public"; fi
SH
  benchmark run mixed.toml --set "environment.setup=[\". $BATS_TEST_TMPDIR/env.sh\"]"
  expect_status 3
  expect_in "stopped: all 5 runs that have ended were lost, the last one because: competition 'classification_basic' isn't prepared" "$output"
  expect_in '2 rollouts not begun' "$output"
  [[ $(grep -c '"state": "lost"' "$(round)/manifest.json") == 5 && $(grep -c '"state": "cancelled"' "$(round)/manifest.json") == 2 ]]
}

@test "eval grades a round anew: new results, the earlier ones beside them, and what can't be graded stays and is told" {
  config <<'TOML'
[[tasks]]
tasks = ["classification_basic", "regression_basic"]
agent = "baseline"
TOML
  benchmark run mixed.toml --detach
  expect_status 0
  local round=$output stamp=${output##*/} runs=$BATS_TEST_TMPDIR/data/runs first sum
  benchmark eval mixed
  expect_status 2
  expect_in " of $round still have a job: wait until they have ended (scripts_hpc/run_benchmark.sh attach $round)" "$error"
  benchmark attach "$round"
  expect_status 0
  try python -m helpers.eval_rollouts eval mixed --dry-run
  expect_status 0
  [[ $output == "$round: 2 are graded anew; tasks: classification_basic, regression_basic; nothing is submitted" && ! -e $round/eval_manifest.json ]]
  # a grader that was wrong at first
  first=$runs/$stamp-0
  sed -i 's/"total_score": 0\.[0-9]*/"total_score": 0.99/' "$first/grading_report.json"
  sum=$(sha256sum <"$first/evaluation_results.json")
  benchmark eval mixed --latest
  expect_status 0
  expect_in "2 of 2 graded anew, 1 with the same score
$stamp-0: score 0." "$output"
  expect_in ", before 0.99" "$output"
  expect_in "2 asked for: 2 graded" "$output"
  expect_in "[rollouts] graded anew: run_id=$stamp-1 status=ok (scored, score 0." "$error"
  [[ $(sha256sum <"$first/evaluation_results.1.json") == "$sum" && ! -e $first/evaluation_results.2.json ]]
  refuse grep -q '0\.99' "$round/manifest.json"
  check_evaluation() { # check_evaluation STATUS…: of each run
    python3 - "$round" "$@" <<'PY'
import json, sys
from pathlib import Path
round, *statuses = sys.argv[1:]
read = lambda *parts: json.loads(Path(*parts).read_text())
told, results = read(round, "eval_manifest.json"), read(round, "manifest.json")["results"]
assert set(told) >= {"evaluated_at", "results"}
assert [one["status"] for one in told["results"]] == statuses, told
for one, result in zip(told["results"], results, strict=True):
    assert (one["run_dir"], one["task_dir"]) == (result["run_dir"], result["task_dir"])
    assert one["eval_rc"] == (0 if one["status"] == "ok" else 3)
    evaluation, record = read(one["run_dir"], "evaluation_results.json"), read(one["run_dir"], "run_metadata.json")
    assert evaluation["total_score"] == evaluation["evaluation"]["total_score"] == result["score"] == one["score"]
    assert evaluation["run_id"] == result["run_id"] and record["state"] == result["state"] == "scored"
    assert len({grade["report"] for grade in record["grades"]}) == len(record["grades"]) > 1
PY
  }
  check_evaluation ok ok
  # left alone, and ended by whoever attaches
  benchmark eval mixed --detach
  expect_status 0
  local jobs=$output
  [[ -f $jobs/evaluation.json ]]
  try "$ROOT/scripts_hpc/jobs.sh" attach "$jobs"
  expect_status 0
  expect_in "2 of 2 graded anew, 2 with the same score" "$output"
  check_evaluation ok ok
  [[ $(cat "$first"/grading_report_*.json | grep -c '"total_score": 0\.99') == 1 && -e $first/evaluation_results.2.json ]]
  try "$ROOT/scripts_hpc/results.sh" explain "$first"
  expect_status 0
  # another submission lies there now
  echo other >"$runs/$stamp-1/submission/submission.csv"
  benchmark eval "$round" --json
  expect_status 3
  expect_in "$stamp-1 can't be graded anew: " "$error"
  expect_in '"exit_code": 3' "$output"
  check_evaluation ok eval_failed
  [[ -e $first/evaluation_results.3.json && ! -e $runs/$stamp-1/evaluation_results.3.json ]]
  # jobs that come to nothing take nothing from the runs
  benchmark eval mixed --rollout "$stamp" --set paths.scratch=/proc/nowhere
  expect_status 3
  expect_in "0 of 2 graded anew" "$output"
  expect_in "$stamp-0: its result stays, it was not graded anew: not graded again, by job " "$output"
  expect_in "2 asked for: 2 graded" "$output"
  [[ ! -e $first/evaluation_results.4.json ]]
  benchmark eval mixed --rollout 1999
  expect_status 2
  expect_in "benchmark 'mixed' has no round 1999. There are: $stamp" "$error"
  benchmark eval mixed -v
  expect_status 2
  wait_for 20 eval '[[ -z $(local_processes) && -z $(find "$BATS_TEST_TMPDIR/addresses" -maxdepth 1 -type f) ]]'
}
