# bats file_tags=site:hosts
# The second site is what it says, and the tool says what it demands.

setup() {
  load helpers.bash
  cluster_setup
}

teardown() { cluster_teardown; }

on_node() { # on_node NODE COMMAND…: as the user, in the node's network
  nsenter "--net=$STATE/net/$1" setpriv --reuid="$HAB_CLUSTER_USER" --regid="$HAB_CLUSTER_USER" --init-groups "${@:2}"
}

listen() { # listen NODE ADDRESS: a web server there, until the test ends; its port goes to $WORK/ADDRESS
  on_node "$1" python3 -c '
import http.server, os, sys
server = http.server.HTTPServer((sys.argv[1], 0), http.server.SimpleHTTPRequestHandler)
with open(sys.argv[2] + "~", "w") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[2] + "~", sys.argv[2])
server.serve_forever()' "$2" "$WORK/$2" >"$WORK/$2.log" 2>&1 3>&- 4>&- &
  await 10 test -e "$WORK/$2"
}

reaches() { on_node "$1" curl --silent --max-time 5 --noproxy '*' --output /dev/null "http://$2:$(<"$WORK/$3")/"; } # reaches NODE NAME ADDRESS

@test "nodes reach one another by the names of /etc/hosts, and never another's loopback" {
  listen n1 127.0.0.1
  listen n1 0.0.0.0
  reaches n1 127.0.0.1 127.0.0.1
  reaches n1 n1 0.0.0.0
  reaches n2 n1 0.0.0.0
  reaches g1 n1.hab.internal 0.0.0.0
  refuse reaches n2 n1 127.0.0.1
  refuse reaches n2 127.0.0.1 0.0.0.0
  # as a job sees it
  as_user sbatch --wait --time=5 --partition=long --account=science --qos=day --nodelist=n2 --output="$WORK/job.log" \
    --wrap 'hostname; hostname -f; getent hosts n1'
  [[ $(tr -s ' ' <"$WORK/job.log") == $'n2\nn2.hab.internal\n10.213.7.11 n1.hab.internal n1' ]]
}

@test "what every job needs here, and what the tool says where a site file lacks it" {
  local options=(--output=/dev/null --wrap true) asked
  for asked in '--account=science --qos=day' '--time=5 --qos=day' '--time=5 --account=science' '--time=11 --account=science --qos=day'; do
    # shellcheck disable=SC2086
    try sbatch $asked "${options[@]}"
    expect_status 1
  done
  try scripts_hpc/run_workflow.sh classification_basic --agent baseline --set scheduler.account=null
  expect_status 2
  expect_in "asks for account 'bench', your default one, which partition 'long' doesn't take (AllowAccounts: science): set scheduler.account" "$error"
  try scripts_hpc/run_workflow.sh classification_basic --agent baseline --set scheduler.qos=night
  expect_status 2
  expect_in "QOS 'night', and account 'science' may use: day, normal (sacctmgr)" "$error"
  # a partition of ten minutes
  try scripts_hpc/run_workflow.sh classification_basic replay accel short
  expect_status 2
  expect_in "and partition 'short' allows 00:10:00 (MaxTime): lower jobs.grading_server.time of site hosts" "$error"
  try scripts_hpc/prepare_tasks.sh clustering_basic --set partitions.cpu.name=short --set container.runtime=none
  expect_status 2
  expect_in "and partition 'short' allows 00:10:00 (MaxTime): lower jobs.prepare.time of site hosts" "$error"
  # what only the scheduler says
  try scripts_hpc/run_workflow.sh classification_basic --agent baseline --set scheduler.qos=null
  expect_status 3
  expect_in 'the scheduler refused the grading_server job: Invalid qos specification' "$error"
  expect_nothing_left 10
}

@test "preparation in a partition of ten minutes" {
  try scripts_hpc/prepare_tasks.sh clustering_basic --set "paths.data=$WORK/data" --set partitions.cpu.name=short \
    --set jobs.prepare.time=00:08:00 --set container.runtime=none
  expect_status 0
  expect_in 'Successfully prepared clustering_basic' "$output"
  expect_nothing_left 10
}

@test "a node whose name doesn't resolve, or is loopback: its server's job ends at once and names network.interface" {
  local name job log
  try scripts_hpc/render.sh
  expect_status 0
  for name in ghost localhost; do
    # the node, by another name
    job=$(as_user sbatch --parsable --time=5 --partition="$CPU" --account=science --qos=day --output="$WORK/$name.log" \
      --wrap "unshare --map-root-user --uts sh -c 'hostname $name && exec bash $CHECKOUT/rendered/$SITE/slurm_grading_server.sh classification_basic'")
    await 30 job_is "$job" FAILED
    [[ $(scontrol show job "$job") == *'ExitCode=3:0'* ]]
    log=$(<"$WORK/$name.log")
    expect_in "this node is called '$name'" "$log"
    expect_in "et network.interface of site $SITE" "$log"
  done
  expect_nothing_left 10
}

@test "the address of a live job that doesn't answer: lost, with the URL and the key to change" {
  local folder=$CHECKOUT/rendered/$SITE server agent script=$WORK/agent.sh log
  try scripts_hpc/render.sh --set jobs.agent.time_limit=30
  expect_status 0
  server=$(as_user sbatch --parsable "$folder/slurm_grading_server.sh" classification_basic)
  await 60 test -e "$ADDRESSES/grading_server_$server"
  sed -i '1s/:[0-9]*$/:9/' "$ADDRESSES/grading_server_$server"
  # not for three minutes
  sed '/^run::await_services/i SILENT_SECONDS=5' "$folder/slurm_agent_baseline.sh" >"$script"
  agent=$(as_user sbatch --parsable "$script" classification_basic "auto:$server")
  await 60 job_is "$agent" FAILED
  [[ $(scontrol show job "$agent") == *'ExitCode=3:0'* ]]
  log=$(cat "$WORK"/runs/logs/agent_baseline-"$agent".out)
  expect_in ': lost: the job of grading_server lives, but for 5 s' "$log"
  expect_in '.hab.internal:9: ' "$log"
  expect_in "set network.interface of site $SITE" "$log"
  as_user scancel "$server"
  expect_nothing_left 20
}
