# `site.sh init` on a real Slurm: what it writes from the cluster's own words is enough for a run, on both sites.
# bats file_tags=site:any
bats_require_minimum_version 1.5.0

setup() {
  load helpers.bash
  cluster_setup
  rm -f "$CHECKOUT/site-config/made.yaml"
}

teardown() {
  rm -f "$CHECKOUT/site-config/made.yaml"
  cluster_teardown
}

# bats test_tags=site:both
@test "a site file that nobody has touched: valid, and a run on it is scored" {
  local folders=(HPC_PATHS__DATA="$STATE/shared/data" HPC_PATHS__CONTAINERS="$STATE/shared/containers" HPC_PATHS__ADDRESS_DIR="$ADDRESSES")
  USER_VARIABLES+=(SCRATCH="$WORK")
  try scripts_hpc/site.sh init made --yes </dev/null
  expect_status 0
  expect_in 'wrote site-config/made.yaml: ' "$output"
  sed 's/^/# /' "$CHECKOUT/site-config/made.yaml"
  grep -q "cpu:$" "$CHECKOUT/site-config/made.yaml"
  grep -qE "^    name: $CPU  " "$CHECKOUT/site-config/made.yaml"
  grep -qE "^    name: $GPU  " "$CHECKOUT/site-config/made.yaml"
  grep -qE '^  per_node: 2  ' "$CHECKOUT/site-config/made.yaml"
  grep -qF '${SCRATCH}/hpc-agent-bench/data' "$CHECKOUT/site-config/made.yaml"
  if [[ $HAB_CLUSTER_SITE == hosts ]]; then
    # demanded there
    grep -qE '^  account: science  .*the only one' "$CHECKOUT/site-config/made.yaml"
    grep -qE '^    time: "12:00:00" .*the longest of partition long' "$CHECKOUT/site-config/made.yaml"
  fi
  USER_VARIABLES+=("${folders[@]}" HPC_SITE=made)
  try scripts_hpc/site.sh validate made
  expect_status 0
  try scripts_hpc/site.sh init made --yes </dev/null
  expect_status 2
  expect_in 'site-config/made.yaml is there already, and is left as it is' "$error"
  # what only nodes can tell: those of the first site have one name for all of them, those of the second no internet
  cp "$CHECKOUT/site-config/made.yaml" "$WORK/before"
  try scripts_hpc/site.sh doctor --write
  expect_status 0
  if [[ $HAB_CLUSTER_SITE == hosts ]]; then
    grep -qE '^  offline: true +# a guess' "$CHECKOUT/site-config/made.yaml"
  else
    grep -qE '^  interface: lo  # site.sh doctor --write' "$CHECKOUT/site-config/made.yaml"
  fi
  (($(diff "$WORK/before" "$CHECKOUT/site-config/made.yaml" | grep -c '^[<>]') <= 3))
  try scripts_hpc/run_workflow.sh classification_basic replay --steps 1
  refuse grep -F 'site.sh doctor' <<<"$error"
  [[ $(pick "$(sed -n 's/^run: //p' <<<"$error")/workflow.json" "d['doctor']['passed'], d['doctor']['same_config']") == 'True True' ]]
  expect_status 0
  try scripts_hpc/jobs.sh list
  expect_status 0
  grep -qE '^[0-9]+ +scored +classification_basic +replay +aide +[0-9.]+ accuracy ' <<<"$output"
  expect_nothing_left 20
}
