# A round of which the queue takes a part (scripts_hpc/lib/chain.sh): what waits is submitted by the last elements of the array before it.
# Against a fake Slurm, whose jobs do nothing: the elements are run here, as far as they submit.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm HAB_SUBMIT_PAUSE=0 SCHEDULER_DOUBT=0 HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT}
  mkdir -p "$FAKE_SLURM"
  PATH=$ROOT/tests/fakes/slurm:$PATH
  make_site slurm apptainer
  make_task toy
  touch "$BATS_TEST_TMPDIR/images/"{mlebench-env,aide}.sif
  export HPC_SITE=$SITE_FILE
  cd "$BATS_TEST_TMPDIR"
  printf '%s\n' 'parallel = 2' '[[tasks]]' 'task = "toy"' 'model = "replay"' 'rollouts = 12' >many.toml
  : >"$FAKE_SLURM/jobs"
}

benchmark() { try "$ROOT/scripts_hpc/run_benchmark.sh" "$@"; }
run_many() { # run_many [OPTIONS]: sets GROUP; jobs 101 and 102 are the servers, 103 the first array
  benchmark run many.toml --set limits.max_submit=8 --detach "$@"
  expect_status 0
  GROUP=$output
}
calls() { sed 's/ *$//' "$FAKE_SLURM/calls" 2>/dev/null || true; }
agents() { sed -n 's/^agent=//p' "$GROUP/jobs/submitted"; }
ended() { local job; for job; do sed -i -E "s/^($job(_[0-9]+)?) .*/\1 COMPLETED/" "$FAKE_SLURM/jobs"; done; }
next() { (cd "$GROUP/jobs" && ls -d next.*) 2>/dev/null | xargs; }

# An element of an array, as its script runs it, up to where it has submitted what follows: [VARIABLE=VALUE…] ARRAY INDEX. What it does
# besides is left out, but for its claim.
element() {
  local settings=()
  while [[ $1 == *=* ]]; do settings+=("$1") && shift; done
  local line
  line=$(grep "^agent=$1" "$GROUP/jobs/submitted")
  # shellcheck disable=SC2016
  env "${settings[@]}" SLURM_JOB_ID=9 SLURM_ARRAY_JOB_ID="$1" SLURM_ARRAY_TASK_ID="$2" SLURM_MEM_PER_CPU=100 SBATCH_PARTITION=other bash -c '
    set -euo pipefail
    sed -e "/^run::create\$/,\$d" "$1" >"$1.part"
    # what a script adds to its environment stays there
    export no_proxy=added,${no_proxy:-}
    source "$1.part" "${@:2}"
    printf "the rollout begins\n" >&2
    # where the job would be killed
    if [[ -n ${DIES:-} ]]; then
      until eval "$DIES"; do sleep 0.05; done
      pkill -KILL -P $$ || true
      kill -KILL $$
    fi
    ' "$GROUP/jobs/agent.sh" "$GROUP/jobs/agent.sh" $(cut -d' ' -f3- <<<"$line") >>"$BATS_TEST_TMPDIR/log" 2>&1 || true
}

@test "a round that finds no room is submitted in parts, and says so; each part by one of the last of the one before" {
  benchmark run many.toml --set limits.max_submit=8 --dry-run
  expect_status 0
  expect_in 'note: 12 rollouts are more than limits.max_submit (8) lets into the queue: 1 array is submitted now, the others by the jobs before them.' "$output"
  run_many
  expect_in 'note: 12 rollouts are more than limits.max_submit (8)' "$error"
  [[ $(agents) == '103_[0-2] agent.sh 0 0 3 auto:102 auto:101 auto:101' && $(next) == 'next.0.0 next.0.3 next.0.6' ]]
  [[ $(<"$GROUP/jobs/next.0.0") == 'agent.sh 3 3 2 - replay replay' ]]
  # any of the last ones does it, but only one
  element 103 1
  expect_in 'submitted what follows array 103: job 104' "$(<log)"
  element 103 2
  element 103 0
  [[ $(agents | tail -n +2) == '104_[0-2] agent.sh 0 3 3 auto:102 auto:101 auto:101' && $(readlink "$GROUP/jobs/next.0.0.taken") == 103_1 ]]
  [[ $(calls | grep '^sbatch' | tail -n 1) == 'sbatch --parsable --dependency=after:102:101,afterany:103 --kill-on-invalid-dep=yes --array=0-2%2 agent.sh 0 3 3 auto:102 auto:101 auto:101' ]]
  [[ -e $BATS_TEST_TMPDIR/addresses/vllm_replay_101.consumers/104 && -e $BATS_TEST_TMPDIR/addresses/grading_server_102.consumers/104 ]]
  [[ $(grep -c 'the rollout begins' log) == 3 ]]
  # nothing of the job's own reaches what it submits
  [[ ! -s $FAKE_SLURM/inputs ]]
}
