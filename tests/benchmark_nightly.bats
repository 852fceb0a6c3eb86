# templates/benchmarks/: nightly.sh, and the lines for cron, scrontab and GitHub Actions that start it. Each is run as its program does.
bats_require_minimum_version 1.5.0

setup_file() { export BATS_TEST_TIMEOUT=240; } # two rounds in one test

setup() {
  load common.bash
  make_site local none
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT} HPC_SITE=$SITE_FILE
  EXAMPLES=$ROOT/templates/benchmarks
  # a checkout with configurations of its own
  REPO=$BATS_TEST_TMPDIR/repo
  mkdir -p "$REPO/configs"
  ln -s "$ROOT/templates" "$REPO/templates"
  cd "$REPO"
}

teardown() {
  end_local_jobs
  check_records "$BATS_TEST_TMPDIR"/data/rollouts/*/*
}

config() { printf '%s\n' "parallel = ${2:-2}" '[[tasks]]' 'task = "classification_basic"' 'agent = "baseline"' "rollouts = $1" >configs/nightly.toml; }
rounds() { compgen -G "$BATS_TEST_TMPDIR/data/rollouts/nightly/*" | sort; }

# A crontab's variables, as NAME=VALUE lines, and its one command.
variables() { grep -E '^[A-Z_]+=' "$1" | sed "s|=/path/to/repo$|=$REPO|; s|=mycluster$|=$SITE_FILE|"; }
command_of() {
  [[ $(grep -cE '^[0-9*]' "$1") == 1 ]]
  sed -nE 's/^([0-9*,/-]+ ){5}(.*)$/\2/p' "$1"
}

# A line as cron runs it: by the shell that the file names, with next to no environment.
run_line() { # run_line FILE
  local settings
  mapfile -t settings < <(variables "$1")
  try env -i HOME="$HOME" LOGNAME="$(id -un)" SHELL=/bin/sh PATH=/usr/bin:/bin HAB_VENV_DIR="$HAB_VENV_DIR" PYTHONPATH="$ROOT" "${settings[@]}" \
    bash -c 'cd / && exec "$SHELL" -c "$1"' - "$(command_of "$1")"
}

@test "the first night from cron has nothing to compare; the next, in CI, is worse, and says where" {
  config 5 5
  refuse grep -q '[^\\]%' <(command_of "$EXAMPLES/crontab") # cron takes it for the end of the line
  run_line "$EXAMPLES/crontab"
  expect_status 0
  local log
  log=$(<"$HOME/nightly.log")
  expect_in '5 asked for: 5 graded' "$log"
  expect_in 'The first round of nightly: there is none to compare it with.' "$log"
  [[ -z $output && $(rounds | wc -l) == 1 ]]

  # that night is made to have been better
  sed -i -E 's/"(total_)?score": 0\.[0-9]+/"\1score": 0.9999/g' "$(rounds)"/classification_basic_*/grading_report.json
  github_steps "$EXAMPLES/github-workflow.yml"
  export GITHUB_STEP_SUMMARY=$BATS_TEST_TMPDIR/shown
  try step 1
  expect_status 1
  expect_in '5 asked for: 5 graded' "$output"
  expect_in '- baseline, accuracy, higher is better: **worse beyond chance** (p 0.0079): classification_basic 0.9999 → 0.' "$output"
  try step 2
  expect_status 0
  [[ $(<"$GITHUB_STEP_SUMMARY") == "$(<comparison.md)" && -s comparison.md ]]

  # a round is no worse than itself, and the one before is better than the new one
  local before after
  before=$(rounds | head -n 1) after=$(rounds | tail -n 1)
  try "$ROOT/scripts_hpc/run_benchmark.sh" compare "$after" "$after" --fail-if-worse
  expect_status 0
  expect_in 'no worse than chance makes it' "$output"
  try "$ROOT/scripts_hpc/run_benchmark.sh" compare "$after" "$before" --fail-if-worse --json
  expect_status 0
  expect_in '"is_worse": false' "$output"
  try "$ROOT/scripts_hpc/run_benchmark.sh" compare "$before" "$after" --fail-if-worse --json
  expect_status 1
  expect_in '"is_worse": true' "$output"
  try "$ROOT/scripts_hpc/run_benchmark.sh" compare "$before" "$after"
  expect_status 0
  refuse expect_in 'Is B worse?' "$output"
}

@test "a night from scrontab: its options stand right above its line; one rollout a night is too little to tell, and that is said" {
  config 1
  [[ $(tail -n 1 "$EXAMPLES/scrontab") =~ ^0\ 2\ \*\ \*\ \*\  ]]
  # Slurm gives #SCRON to the next line, and to no other
  [[ $(grep -B1 -E '^[0-9]' "$EXAMPLES/scrontab" | head -n 1) == '#SCRON --'* ]]
  refuse grep -vE '^#SCRON --[a-z-]+=[A-Za-z0-9:.%-]+$' <(grep '^#SCRON' "$EXAMPLES/scrontab")
  run_line "$EXAMPLES/scrontab"
  expect_status 0
  expect_in 'The first round of nightly' "$output"
  BASELINE=nightly/$(basename "$(rounds)") try "$EXAMPLES/nightly.sh" configs/nightly.toml
  expect_status 0
  expect_in "not known, as so few rollouts can't reach less than p = 1: ask for more." "$output"
}

@test "a night that can't be run ends as the command did, and nothing is compared" {
  try "$EXAMPLES/nightly.sh"
  expect_status 2
  expect_in 'Usage: templates/benchmarks/nightly.sh CONFIG' "$output"
  try "$EXAMPLES/nightly.sh" configs/nothere.toml
  expect_status 2
  expect_in 'configs/nothere.toml: there is no such file' "$error"
  [[ -z $output ]]
}

# The workflow, parsed: its commands go to files step-1, step-2, its variables to the environment.
github_steps() { # github_steps FILE
  "${HAB_CORE_PYTHON:-python3}" - "$1" "$BATS_TEST_TMPDIR" <<'PY'
import shlex, sys, yaml
from pathlib import Path

told = yaml.safe_load(Path(sys.argv[1]).read_text())
assert set(told) == {"name", True, "permissions", "concurrency", "jobs"}, set(told)  # YAML 1.1 reads `on` as true
assert told[True]["workflow_dispatch"] is None and [len(one["cron"].split()) for one in told[True]["schedule"]] == [5]
[job] = told["jobs"].values()
assert "self-hosted" in job["runs-on"] and 0 < job["timeout-minutes"] <= 5 * 24 * 60  # GitHub's bound for one's own runners
assert job["defaults"]["run"]["shell"] == "bash"
folder = Path(sys.argv[2])
commands = [step["run"] for step in job["steps"] if "run" in step]
assert not any("${{" in text for text in commands)  # nothing from outside is pasted into a command
assert [step.get("if") for step in job["steps"] if "run" in step] == [None, "always()"]
for number, text in enumerate(commands, 1):
    (folder / f"step-{number}").write_text(text)
(folder / "variables").write_text("".join(f"export {name}={shlex.quote(str(value))}\n" for name, value in job["env"].items()))
PY
}

step() { # step NUMBER: as GitHub runs one whose shell is bash
  (
    source "$BATS_TEST_TMPDIR/variables"
    export TOOLKIT=$ROOT HPC_SITE=$SITE_FILE
    exec bash --noprofile --norc -eo pipefail "$BATS_TEST_TMPDIR/step-$1"
  )
}
