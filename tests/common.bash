# shellcheck shell=bash
# What every bats file needs: its own home, its own folders, and the project's Python on PATH.
ROOT=$(cd -P "$BATS_TEST_DIRNAME" && while [[ ! -f pyproject.toml ]]; do cd ..; done && pwd)
export ROOT PYTHONPATH=$ROOT
export HOME=$BATS_TEST_TMPDIR/home
mkdir -p "$HOME"
unset HPC_SITE "${!SLURM_@}" "${!HPC_@}"

# A site file whose folders all lie in the test's own folder.
make_site() { # make_site KIND RUNTIME: writes $SITE_FILE
  SITE_FILE=$BATS_TEST_TMPDIR/here.yaml
  cat >"$SITE_FILE" <<YAML
scheduler: {kind: $1}
container: {runtime: $2}
partitions: {cpu: {name: cpu}, gpu: {name: gpu}}
gpu: {per_node: 2}
jobs:
  grading_server: {cpus: 1, memory_gb: 1, time: "01:30:00"}
  model_server: {time: "01:30:00"}
  agent: {cpus: 1, memory_gb: 1, time_limit: 120}
paths:
  data: $BATS_TEST_TMPDIR/data
  runs: $BATS_TEST_TMPDIR/runs
  models: $BATS_TEST_TMPDIR/models
  containers: $BATS_TEST_TMPDIR/images
  address_dir: $BATS_TEST_TMPDIR/addresses
network: {interface: lo}
limits: {grace_seconds: 3}
YAML
  mkdir -p "$BATS_TEST_TMPDIR/data" "$BATS_TEST_TMPDIR/images"
}

make_task() { # make_task NAME: something that looks prepared
  mkdir -p "$BATS_TEST_TMPDIR/data/$1/prepared/"{public,private}
  echo text >"$BATS_TEST_TMPDIR/data/$1/prepared/public/description.md"
  echo text >"$BATS_TEST_TMPDIR/data/$1/prepared/private/answers.csv"
}

# --separate-stderr without its version dance: output, error and status of a command
try() {
  status=0
  output=$("$@" 2>"$BATS_TEST_TMPDIR/stderr") || status=$?
  error=$(<"$BATS_TEST_TMPDIR/stderr")
}

expect_status() {
  [[ $status == "$1" ]] || {
    printf 'status %s, expected %s\nstdout: %s\nstderr: %s\n' "$status" "$1" "$output" "$error"
    return 1
  }
}

refuse() { ! "$@"; } # refuse COMMAND…: it must fail (bats takes no notice of `! COMMAND`, but of this function)

expect_in() { # expect_in TEXT WHERE
  [[ $2 == *"$1"* ]] || {
    printf 'expected: %s\nfound:    %s\n' "$1" "$2"
    return 1
  }
}

check_records() { python "$ROOT/tests/check_records.py" "$@"; } # check_records FOLDER…: the records of the runs below are as promised

# What a failed test leaves of jobs without Slurm ends with it: their processes carry the test's folder in their environment.
local_processes() { grep -lzs "HAB_LOCAL_JOB=$BATS_TEST_TMPDIR/" /proc/[0-9]*/environ || true; }
end_local_jobs() {
  local file
  # an array's runner would start the next elements
  for file in $(grep -lzs "^LOCAL_JOBS=$BATS_TEST_TMPDIR/" /proc/[0-9]*/environ); do
    file=${file%/environ}
    ! grep -qzxs run_array "$file/cmdline" || kill -KILL "${file#/proc/}" 2>/dev/null || true
  done
  while IFS= read -r file; do
    file=${file#/proc/}
    kill -KILL "${file%%/*}" 2>/dev/null || true
  done < <(local_processes)
}

wait_for() { # wait_for SECONDS COMMAND…
  local limit=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < limit)) || {
      echo "not within the time: $*"
      return 1
    }
    sleep 0.1
  done
}
