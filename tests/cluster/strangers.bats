# bats file_tags=site:hosts
# Another ordinary user on the nodes: he is believed in nothing, learns nothing, and may have runs of his own; and proxies that lead astray.

setup() {
  load helpers.bash
  cluster_setup
}

teardown() {
  scancel --user="$STRANGER"
  rm -rf "$STATE/shared/of-$STRANGER"
  cluster_teardown
}

@test "a stranger takes the port of a model that loads: he is named, another port is taken, and he is told nothing" {
  local job log image
  as_owner mkdir "$WORK/images" "$WORK/model"
  for image in aide mlebench-env; do as_owner ln -s "$STATE/shared/containers/$image.sif" "$WORK/images/"; done
  as_owner ln -s "$STATE/shared/containers/mlebench-env.sif" "$WORK/images/vllm.sif"
  as_owner tee "$WORK/model/config.json" >/dev/null <<<'{}'
  as_owner tee "$WORK/model/tokenizer.json" "$WORK/model/tokenizer_config.json" >/dev/null <<<'{}'
  # no tensors: the length of an empty header, and the header
  printf '\2\0\0\0\0\0\0\0{}' | as_owner tee "$WORK/model/model.safetensors" >/dev/null
  start one classification_basic slow --agent caller --set "paths.containers=$WORK/images" \
    --set "container.binds=[$CHECKOUT/tests/cluster/fake_vllm:/opt/venv/lib/python3.11/site-packages/vllm:ro]" \
    --set "models.slow={engine: vllm, repo: $WORK/model, served_name: slow, gpus: 0, cpus: 1, memory_gb: 1, context_length: 8192, load_minutes: 2}"
  await 20 group one >/dev/null
  job=$(job_of one model_server)
  log=$(group one)/logs/vllm_slow-$job.out
  await 30 job_is "$job" RUNNING
  stranger "$(node_of "$job")" "slow.job-$job "
  await 30 grep -q 'taking another port' "$log"
  grep -Eq "port $(sed -n 's/^listening on //p' "$WORK/stranger/log") of $HOST is held by a process of user $STRANGER that isn't our server" "$log"
  as_owner touch "$WORK/model/go"
  await_working one
  note_secrets
  go one
  finish one 60
  expect_status 0
  expect_in 'score 0.335' "$output"
  [[ $(pick "$(run_of one)/logs/answer.json" "d['choices'][0]['message']['content']") == pong ]]
  expect_nothing_told
  expect_nothing_left 10
}

@test "a stranger takes the port of a grading server that was killed: nothing is believed, and the score is the true one" {
  local job port
  start one classification_basic replay --agent caller
  await_working one
  job=$(job_of one grading_server)
  note_secrets
  port=$(head -n 1 "$ADDRESSES/grading_server_$job")
  port=${port##*:}
  stranger "$(node_of "$job")" "$port"
  kill_process "$job" '^python3 -m helpers.serving.grading_server'
  go one
  await 10 grep -q "^listening on $port$" "$WORK/stranger/log"
  finish one 90
  expect_status 0
  expect_in 'score 0.335' "$output"
  expect_state one scored
  grep -q 'grading_server died with code 137' "$(group one)/logs/grading_server-$job.out"
  expect_nothing_told
  expect_nothing_left 10
}

@test "a second user's run beside the first's, with the first's checkout and images, and never with his answers" {
  local other=$STATE/shared/of-$STRANGER
  install -d -m 755 -o "$STRANGER" -g "$STRANGER" "$other"
  start first classification_basic replay --agent caller
  await_working first
  # what isn't his is said before anything is submitted
  HAB_CLUSTER_USER=$STRANGER try scripts_hpc/run_workflow.sh classification_basic --agent waiter
  [[ $status == [23] ]]
  expect_in "$WORK/runs" "$error"
  [[ $error != *Traceback* ]]
  USER_VARIABLES+=(HPC_PATHS__RUNS="$other/runs" HPC_PATHS__ADDRESS_DIR="$other/addresses")
  HAB_CLUSTER_USER=$STRANGER try scripts_hpc/run_workflow.sh classification_basic --agent baseline
  expect_status 2
  expect_in "$ANSWERS can't be read: Permission denied (paths.data of site $SITE)" "$error"
  USER_VARIABLES+=(HPC_PATHS__DATA="$other/data")
  HAB_CLUSTER_USER=$STRANGER try scripts_hpc/run_workflow.sh classification_basic --agent baseline
  expect_status 0
  expect_in '/ baseline (seed 0): score 0.' "$output"
  [[ $(stat -c '%a %U' "$other/addresses") == "700 $STRANGER" ]]
  refuse setpriv --reuid="$STRANGER" --regid="$STRANGER" --init-groups ls "$ADDRESSES" 2>/dev/null
  go first
  finish first 60
  expect_status 0
  expect_state first scored
  expect_nothing_left 10
}

@test "proxy variables of the person who submits: containers get what we wrote, and the run's servers are reached directly" {
  local name run
  for name in http_proxy HTTP_PROXY all_proxy ALL_PROXY; do
    # in a session of its own: the guard of a script that has ended ends its process group, a second later
    run=$(as_user env "$name=http://127.0.0.1:9" setsid --wait bash -c '
      source scripts_hpc/lib/common.sh && source scripts_hpc/lib/container.sh
      RUNTIME=apptainer IMAGES=$HAB_CLUSTER_STATE/shared/containers SITE=here JOB_ID=1
      container::scratch /tmp
      (container::exec aide --contained -- env)')
    expect_in HOME=/tmp "$run"
    refuse grep -i proxy <<<"$run"
  done
  USER_VARIABLES+=(ALL_PROXY=http://127.0.0.1:9)
  start curl classification_basic replay --agent caller
  USER_VARIABLES+=(HTTP_PROXY=http://127.0.0.1:9)
  start aide classification_basic replay --steps 1
  await_working curl
  local pid
  for pid in $(pgrep --euid "$HAB_CLUSTER_USER" --full '^python3 -m helpers.(grading|replay)_server'); do
    refuse grep -ia _proxy "/proc/$pid/environ"
  done
  go curl
  for name in curl aide; do
    finish "$name" 100
    expect_status 0
    expect_state "$name" scored
  done
  run=$(run_of curl)/logs/environment
  grep -Fqx all_proxy=http://127.0.0.1:9 "$run"
  grep -Eq "^no_proxy=(.*,)?$HOST(,|$)" "$run"
  expect_nothing_left 10
}

@test "a grading server whose task isn't there says so, isn't started again, and who waits for it hears why" {
  local folder=$CHECKOUT/rendered/$SITE server agent log
  try scripts_hpc/render.sh --set jobs.agent.time_limit=30 --set "paths.data=$WORK/nowhere"
  expect_status 0
  server=$(as_user sbatch --parsable "$folder/slurm_grading_server.sh" spaceship-titanic)
  await 30 job_is "$server" FAILED
  log=$(<"$WORK/runs/logs/grading_server-$server.out")
  expect_in "spaceship-titanic" "$log"
  [[ $(scontrol show job "$server") == *'ExitCode=2:0'* && $log != *FATAL* && $log != *'start 2'* ]]
  # with the data of the other half there: only the server's are missing
  try scripts_hpc/render.sh --set jobs.agent.time_limit=30
  agent=$(as_user sbatch --parsable "$folder/slurm_agent_baseline.sh" classification_basic "auto:$server")
  await 60 job_is "$agent" FAILED
  [[ $(scontrol show job "$agent") == *'ExitCode=3:0'* ]]
  expect_in "job $server, a server that this run needs, has ended: " "$(<"$WORK/runs/logs/agent_baseline-$agent.out")"
  expect_nothing_left 10
}
