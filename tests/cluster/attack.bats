# An agent that attacks, in its container on the cluster: whatever it tries fails, and it can't harm its own grading.

setup() {
  load helpers.bash
  cluster_setup
  local home
  home=$(getent passwd "$HAB_CLUSTER_USER" | cut -d: -f6)
  as_owner bash -c 'umask 077; printf "secret\n" >"$1"; printf "OPENAI_API_KEY=sk-secret\n" >"$2"; mkdir -p "$3"; printf "secret\n" >"$3/other"' \
    - "$home/secret" "$CHECKOUT/.env" "$CLUSTER_TESTS/runs"
}

teardown() {
  rm -f "$CHECKOUT/.env" "$(getent passwd "$HAB_CLUSTER_USER" | cut -d: -f6)/secret"
  cluster_teardown
}

expect_all_failed() { # expect_all_failed NAME
  local file
  file=$(run_of "$1")/logs/attack.json
  [[ $(pick "$file" "len(d) >= 20") == True ]]
  [[ $(pick "$file" "[name for name in d if name.startswith('read ')].__len__() >= 10") == True ]]
  [[ $(pick "$file" "{name: one['detail'] for name, one in d.items() if one['succeeded']}") == '{}' ]] || {
    pick "$file" "{name: one['detail'] for name, one in d.items() if one['succeeded']}"
    return 1
  }
}

@test "nothing can be read, written or graded; a link to the answers is no submission" {
  start attack classification_basic --agent attacker
  start link classification_basic --agent linker
  finish attack 60
  expect_status 0
  expect_state attack scored
  finish link 60
  expect_status 4
  expect_state link invalid_submission
  expect_in 'invalid_submission: submission.csv is a link' "$output"
  [[ $output != *score\ 0* && ! -e $(run_of link)/grading_report.json ]]
  expect_all_failed attack
  expect_all_failed link
  # the job's log holds the job's words alone
  local log
  log=$(cat "$(group attack)"/logs/agent_attacker-*.out)
  expect_in 'classification_basic: scored: graded' "$log"
  [[ $log != *licence* ]]
  grep -q '^slurm_script: the licence has ended' "$(run_of attack)/agent.log"
  try scripts_hpc/jobs.sh logs "$(group attack)" agent
  expect_status 0
  expect_in $'\n| slurm_script: the licence has ended: run ' "$output"
  try scripts_hpc/jobs.sh why "$(group link)"
  [[ $output != *licence* ]]
  expect_nothing_left 3
}

@test "what the user binds into every container, and passes to it, doesn't reach the agent" {
  local name
  for name in APPTAINER SINGULARITY; do
    USER_VARIABLES+=("${name}_BIND=$ANSWERS:/mnt,$HAB_CLUSTER_STATE" "${name}_BINDPATH=$ANSWERS" "${name}_MOUNT=type=bind,src=$ANSWERS,dst=/srv"
      "${name}ENV_STOLEN_KEY=sk-secret" "${name}ENV_PREPEND_PATH=$HAB_CLUSTER_STATE")
  done
  USER_VARIABLES+=(OPENAI_API_KEY=sk-secret STOLEN_KEY=sk-secret)
  start poisoned classification_basic --agent attacker
  await 30 group poisoned >/dev/null
  start spy classification_basic --agent spy
  finish poisoned 60
  expect_status 0
  expect_all_failed poisoned
  finish spy 60
  expect_status 0
  grep -q '^GRADING_TOKEN=' "$(run_of spy)/logs/environment"
  [[ -s $(run_of spy)/logs/environments && -s $(run_of spy)/logs/arguments ]]
  refuse grep -rE 'sk-secret|STOLEN|OPENAI' "$(run_of spy)/logs"
  [[ -z $(cat "$(run_of spy)/logs/mnt") ]]
  expect_nothing_left 3
}
