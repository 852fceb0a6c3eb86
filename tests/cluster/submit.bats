# What a site's sbatch and a person's environment may say, and folders with odd names, on a real Slurm.
# bats file_tags=site:both
bats_require_minimum_version 1.5.0

setup() {
  load helpers.bash
  cluster_setup
}

teardown() { cluster_teardown; }

@test "banners, an answer that comes too late, variables of the environment, and a folder with a blank and '%'" {
  as_owner tee "$WORK/bin/sbatch" >/dev/null <<SH
#!/usr/bin/env bash
echo 'Welcome, 3 jobs wait'
job=\$(/usr/bin/sbatch "\$@") || exit
echo >>"$WORK/calls"
if ((\$(wc -l <"$WORK/calls") == 2)); then
  echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2
  exit 1
fi
printf '%s\nGoodbye\n' "\$job"
SH
  as_owner chmod +x "$WORK/bin/sbatch"
  as_owner mkdir "$WORK/my runs 50%j"
  USER_VARIABLES+=(SBATCH_PARTITION=nowhere SBATCH_TIMELIMIT=1 SQUEUE_USERS=nobody SCANCEL_STATE=PENDING HPC_PATHS__RUNS="$WORK/my runs 50%j")
  USER_PATH=$WORK/bin start odd classification_basic replay --agent baseline
  finish odd 90
  expect_status 0
  expect_in 'score 0.' "$output"
  expect_in 'it had taken it: job ' "$error"
  expect_in 'SBATCH_PARTITION SBATCH_TIMELIMIT SQUEUE_USERS SCANCEL_STATE' "$error"
  [[ $(wc -l <"$WORK/calls") == 2 ]]
  [[ -s $(echo "$WORK/my runs 50%j"/*/logs/agent_baseline-*.out) ]]
  expect_nothing_left 20
}
