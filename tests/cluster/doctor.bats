# `site.sh doctor` on a real Slurm: a healthy site passes, and what is broken on purpose is found, with the key that mends it.
# bats file_tags=site:any
bats_require_minimum_version 1.5.0

setup() {
  load helpers.bash
  cluster_setup
}

teardown() {
  sed -i 's/^NODE_SILENCE=5 /NODE_SILENCE=20 /' "$CHECKOUT/scripts_hpc/lib/doctor_node.sh"
  scontrol update "partition=$CPU" state=up
  [[ ! -e $STATE/net/n2 ]] || nsenter "--net=$STATE/net/n2" ip route del prohibit 10.213.7.11 2>/dev/null || true
  [[ -z ${ALONE:-} ]] || { bash "$BATS_TEST_DIRNAME/node.sh" kill "$ALONE" && bash "$BATS_TEST_DIRNAME/node.sh" start "$ALONE"; }
  cluster_teardown
}

row() { # row STATE CHECK: what was found, of a table with --json
  python3 -c 'import json, sys
rows = json.load(sys.stdin)["findings"]
found = [one for one in rows if (one["state"], one["check"]) == tuple(sys.argv[1:3])]
print("\n".join("|".join((one["measured"], one["key"], one["advice"])) for one in found) or sys.exit(f"no such row in {rows}"))' "$1" "$2" <<<"$output"
}

expect_row() { # expect_row STATE CHECK TEXT
  expect_in "$3" "$(row "$1" "$2")"
}

expect_nothing_of_it() { # expect_nothing_of_it SECONDS: but its result
  await "$1" no_file
  expect_nothing_left "$1"
}

no_file() { [[ -z $(find "$STATE/shared" "$WORK" \( -name '.hab-doctor.*' -o -name '*-UTC_doctor' \) 2>/dev/null; compgen -G '/tmp/hab-[0-9]*' | xargs -r stat -c '%U %n' | grep "^$HAB_CLUSTER_USER ") ]]; }

alone() { # alone NODE FOLDER: the node sees an empty folder of its own there
  ALONE=$1
  (
    # shellcheck source=tests/cluster/lib.sh
    source "$BATS_TEST_DIRNAME/lib.sh"
    cluster::site "$HAB_CLUSTER_SITE"
    cluster::stop "$1"
    mapfile -t command < <(cluster::as_host "$1" /usr/sbin/slurmd -D -N "$1")
    cluster::start "$1" unshare --mount sh -c 'mount -t tmpfs -o mode=1777 tmpfs "$0" && exec "$@"' "$2" "${command[@]}"
    cluster::wait_for 30 cluster::nodes_ready "$1"
  )
}

# bats test_tags=site:both
@test "a healthy site passes; its GPUs, which are none, are seen not to be there" {
  try scripts_hpc/site.sh doctor --gpu
  expect_status 3
  expect_in 'the probe with 1 GPU(s) takes about 1 GPU-minute(s), 2 at most' "$error"
  expect_in "failure      GPUs " "$output"
  expect_in "reach one another by $([[ $HAB_CLUSTER_SITE == hosts ]] && echo name || echo 'interface lo')" "$(tr -s ' \n' ' ' <<<"$output")"
  [[ $(wc -L <<<"$output") -le 80 ]]
  [[ $(grep -c '^failure ' <<<"$output") == 1 ]]
  expect_nothing_of_it 10
  try scripts_hpc/site.sh doctor --json
  expect_status 0
  for check in 'shared runs' 'shared address_dir' 'shared data' 'shared containers' clocks 'files appear' network 'mlebench-env starts' 'aide starts' jobs 'memory limit'; do
    row ok "$check"
  done
  expect_row ok 'mlebench-env starts' 'on '
  expect_nothing_of_it 10
  [[ $(pick "$WORK/runs/.doctor/$SITE.json" "d['passed']") == True ]]
}

@test "a folder that one node has for itself, a clock an hour off, and a wrong interface" {
  local wrong=127.0.0.1 key=data
  printf '#!/bin/bash\n[[ $1 != +%%s.%%N || ${SLURMD_NODENAME:-} != *2 ]] || { echo $(($(/bin/date +%%s) + 3600)).0 && exit; }\nexec /bin/date "$@"\n' | as_owner tee "$WORK/bin/date" >/dev/null
  chmod +x "$WORK/bin/date"
  alone "$CPU_NODE" "$STATE/shared/$key"
  wrong=$([[ $HAB_CLUSTER_SITE == hosts ]] && echo lo || echo null)
  USER_PATH=$WORK/bin try scripts_hpc/site.sh doctor --json --set "network.interface=$wrong"
  expect_status 3
  expect_row failure "shared $key" "is another folder on $CPU_NODE: a file written here isn't there|paths.$key|"
  expect_row failure clocks "that of $CPU_NODE is 3"
  expect_row failure network "|network.interface|$([[ $HAB_CLUSTER_SITE == hosts ]] && echo eth0 || echo lo): all nodes reach one another so"
  expect_nothing_of_it 10
}

@test "no user namespaces; a scratch without room; a partition that takes no jobs" {
  # as Apptainer says it there
  printf '#!/bin/sh\n[ "$1" != exec ] || { echo "ERROR  : Failed to create user namespace: user namespace disabled" >&2; exit 1; }\nexec /usr/local/bin/apptainer "$@"\n' | as_owner tee "$WORK/bin/apptainer" >/dev/null
  chmod +x "$WORK/bin/apptainer"
  try scripts_hpc/site.sh doctor --json --set "environment.setup=['PATH=$WORK/bin:\$PATH']"
  expect_status 3
  expect_row failure 'aide starts' 'user namespaces are off or used up on this node: ask'
  expect_row 'not checked' network 'user namespaces are off or used up on this node'
  as_owner mkdir "$WORK/full"
  mount -t tmpfs -o "size=64k,mode=0777" tmpfs "$WORK/full"
  try scripts_hpc/site.sh doctor --json --set "paths.scratch=$WORK/full"
  umount "$WORK/full"
  expect_status 3
  expect_row failure 'probe cpu' "no room in $WORK/full (paths.scratch of site $SITE): the disk is full"
  scontrol update "partition=$CPU" state=down
  try scripts_hpc/site.sh doctor --json
  expect_status 3
  expect_row failure "cpu partition" "$CPU is DOWN, and takes no jobs|partitions.cpu.name|"
  expect_nothing_of_it 10
}

@test "what is refused between two nodes, though both reach the head" {
  [[ $HAB_CLUSTER_SITE == hosts ]] || skip 'nodes of this site are one machine'
  nsenter "--net=$STATE/net/n2" ip route add prohibit 10.213.7.11
  try scripts_hpc/site.sh doctor --json
  expect_status 3
  expect_row failure network 'n2 to n1 (n1.hab.internal:'
  expect_row failure network '|network.interface|no interface was seen to work; there are lo, eth0'
}

probing() { compgen -G "$WORK/runs/.hab-doctor.*.peer" >/dev/null; }

@test "Ctrl-C ends the jobs and takes the files; after kill -9 the jobs do both themselves" {
  [[ $HAB_CLUSTER_SITE == loopback ]] || skip 'the same on both'
  local pid node=$CHECKOUT/scripts_hpc/lib/doctor_node.sh
  # not for 20 s
  as_owner sed -i 's/^NODE_SILENCE=20 /NODE_SILENCE=5 /' "$node"
  grep -q '^NODE_SILENCE=5 ' "$node"
  become_user setsid scripts_hpc/site.sh doctor >"$WORK/one.out" 2>"$WORK/one.err" </dev/null 3>&- 4>&- &
  STARTED[one]=$!
  await 30 probing
  as_user scripts_hpc/jobs.sh status | grep -q 'probe cpu *job [0-9]* *RUNNING'
  kill -INT -- "-${STARTED[one]}"
  finish one 30
  expect_status 130
  [[ -z $output ]]
  expect_nothing_of_it 10
  become_user setsid scripts_hpc/site.sh doctor >"$WORK/two.out" 2>"$WORK/two.err" </dev/null 3>&- 4>&- &
  STARTED[two]=$!
  await 30 probing
  kill -KILL -- "-${STARTED[two]}"
  pid=$(pgrep --euid "$HAB_CLUSTER_USER" --full 'helpers.cluster.doctor.cli watch' || true)
  [[ -z $pid ]] || kill -KILL "$pid"
  probing
  expect_nothing_of_it 60
}
