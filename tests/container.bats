# What container::exec starts, to the letter: the runtime's whole argument list and its environment; and the same without containers.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  mkdir -p "$BATS_TEST_TMPDIR/bin" "$BATS_TEST_TMPDIR/images" "$BATS_TEST_TMPDIR/job/tmp"
  for name in apptainer singularity; do
    # prints its arguments, one a line, and what it would hand on or obey
    cat >"$BATS_TEST_TMPDIR/bin/$name" <<'S'
#!/usr/bin/env bash
printf '%s\n' "${0##*/}" "$@"
compgen -e | grep -iE '^(APPTAINER|SINGULARITY)|_proxy' | LC_ALL=C sort | while read -r name; do printf '%s=%s\n' "$name" "${!name}"; done
S
    chmod +x "$BATS_TEST_TMPDIR/bin/$name"
  done
}

# A job script of its own: the guard of container::exec ends the process group that it runs in.
start() { # start RUNTIME ARGS_OF_CONTAINER_EXEC…: $output, with the test's folder as @
  cat >"$BATS_TEST_TMPDIR/script" <<'S'
set -euo pipefail
source "$ROOT/scripts_hpc/lib/common.sh"
source "$ROOT/scripts_hpc/lib/container.sh"
FOLDER=$1 RUNTIME=$2 SITE=here IMAGES=$1/images JOB_TMP=$1/job VENV=$1/venv
RUNTIME_FLAGS=(--flag-of-the-site) SITE_BINDS=(/site:/site)
CONTAINER_ENV=([TOKEN]='a $b `c`') CONTAINER_NO_NET=${FOUND:-} NET_HOLDER=4711
shift 2
container::exec "$@"
S
  PATH=$BATS_TEST_TMPDIR/bin:$PATH try setsid --wait bash "$BATS_TEST_TMPDIR/script" "$BATS_TEST_TMPDIR" "$@"
  expect_status 0
  output=${output//"$BATS_TEST_TMPDIR"/@}
}

expect_lines() { # expect_lines, the lines on stdin
  diff -u --label expected --label found - <(printf '%s\n' "$output")
}

@test "an agent's container: no home, environment, processes, IPC and binds of the host" {
  start apptainer aide --contained --gpu --nv --bind /data:/home/data:ro --bind /run:/home/run --pwd /home/run -- bash start.sh 'a b'
  expect_lines <<'L'
apptainer
exec
--cleanenv
--no-home
--containall
--bind
@/job/shm:/dev/shm
--no-mount
bind-paths
--bind
@/job/hosts:/etc/hosts:ro
--flag-of-the-site
--nv
--bind
@/job/tmp:/tmp
--bind
/data:/home/data:ro
--bind
/run:/home/run
--pwd
/home/run
@/images/aide.sif
env
HOME=/tmp
bash
start.sh
a b
APPTAINERENV_TOKEN=a $b `c`
APPTAINER_NO_EVAL=1
L
}

@test "the same with Singularity, which doesn't know --no-mount bind-paths" {
  start singularity aide --contained -- true
  expect_lines <<'L'
singularity
exec
--cleanenv
--no-home
--containall
--bind
@/job/shm:/dev/shm
--bind
@/job/hosts:/etc/hosts:ro
--flag-of-the-site
--bind
@/job/tmp:/tmp
--pwd
/tmp
@/images/aide.sif
env
HOME=/tmp
true
SINGULARITYENV_TOKEN=a $b `c`
SINGULARITY_NO_EVAL=1
L
}

@test "a container that isn't contained gets the site's binds, and nothing of the environment either" {
  start apptainer vllm --gpu --nv -- true
  expect_lines <<'L'
apptainer
exec
--cleanenv
--no-home
--bind
/site:/site
--flag-of-the-site
--nv
--bind
@/job/tmp:/tmp
--pwd
/tmp
@/images/vllm.sif
env
HOME=/tmp
true
APPTAINERENV_TOKEN=a $b `c`
APPTAINER_NO_EVAL=1
L
}

@test "without network: by the runtime where that has been tried, else in a namespace that the job holds" {
  FOUND=runtime start apptainer aide --contained --no-net --pwd /home/run -- true
  expect_in $'--net\n--network\nnone\n' "$output"
  printf '#!/usr/bin/env bash\nprintf "nsenter %%s\\n" "$*" && while [[ $1 != -- ]]; do shift; done && exec "${@:2}"\n' >"$BATS_TEST_TMPDIR/bin/nsenter"
  chmod +x "$BATS_TEST_TMPDIR/bin/nsenter"
  FOUND=holder start apptainer aide --contained --no-net -- true
  expect_in "nsenter --target 4711 --net" "$output"
  refuse grep -q -- '^--network' <<<"$output"
  FOUND=none start apptainer aide --contained --no-net -- true
  refuse grep -qE 'nsenter|--network' <<<"$output"
  FOUND=holder start none aide --contained --no-net -- true
  expect_in "nsenter --target 4711 --net" "$output"
}

@test "what the user or an admin sets for every container stays out" {
  export http_proxy=http://secret HTTP_PROXY=http://secret all_proxy=http://secret ALL_PROXY=http://secret no_proxy=secret
  export APPTAINER_BIND=/answers APPTAINER_BINDPATH=/answers APPTAINER_MOUNT=/answers APPTAINER_OVERLAY=/o APPTAINERENV_KEY=secret
  export SINGULARITY_BIND=/answers SINGULARITY_BINDPATH=/answers SINGULARITYENV_KEY=secret
  start apptainer aide --contained -- true
  [[ $output != *answers* && $output != *secret* && $output != *OVERLAY* ]]
}

@test "without a runtime the command gets only what it needs of the environment" {
  export SECRET=secret LC_ALL=C USER=me
  start none aide --contained --pwd "$BATS_TEST_TMPDIR/images" -- env --unset=PATH --unset=LANG --unset=TZ --unset=LOGNAME "$BASH" -c '
    pwd
    for name in $(compgen -e); do
      case $name in _ | OLDPWD | PWD | SHLVL) ;; *) printf "%s=%s\n" "$name" "${!name}" ;; esac
    done'
  expect_lines <<'L'
@/images
HOME=@/job/tmp
LC_ALL=C
TMPDIR=@/job/tmp
TOKEN=a $b `c`
USER=me
L
}

@test "a file that the job has open is none of the command's" {
  exec 7>>"$BATS_TEST_TMPDIR/precious"
  start none aide --contained -- "$BASH" -c 'for file in /proc/self/fd/*; do printf "%s\n" "${file##*/}"; done'
  exec 7>&-
  [[ $(grep -cvx '[0-3]' <<<"$output") == 0 && $(grep -cx '[012]' <<<"$output") == 3 ]]
}

job_with_secrets() { # job_with_secrets JOB: one that works until it is killed; sets PID, GUARD and FOLDER
  cat >"$BATS_TEST_TMPDIR/job-script" <<'S'
set -euo pipefail
for lib in common scheduler container; do source "$ROOT/scripts_hpc/lib/$lib.sh"; done
JOB_ID=$2 SITE=here SCHEDULER=slurm HOSTNAME=${HOST:-n1} SCHEDULER_DOUBT=0
ALIVE=$1/alive
sched::alive_in() { printf '%s\n' "$@" | grep -xFf "$ALIVE" || true; }
container::scratch "$1/scratch"
mkdir "$JOB_TMP/endpoints"
echo token >"$JOB_TMP/endpoints/env"
printf '%s\n' "$$" "$SCRATCH_GUARD" "$JOB_TMP" >"$1/.told"
mv "$1/.told" "$1/told"
while :; do common::pause 60; done
S
  rm -f "$BATS_TEST_TMPDIR/told"
  setsid bash "$BATS_TEST_TMPDIR/job-script" "$BATS_TEST_TMPDIR" "$1" 3>&- 2>/dev/null &
  wait_for 10 test -e "$BATS_TEST_TMPDIR/told"
  { read -r PID && read -r GUARD && read -r FOLDER; } <"$BATS_TEST_TMPDIR/told"
}

@test "secrets don't outlive a job that is killed: its guard removes them, else the user's next job on that node" {
  local first second kept
  echo 8 >"$BATS_TEST_TMPDIR/alive"
  job_with_secrets 7
  [[ $(<"$FOLDER/endpoints/env") == token ]]
  kill -KILL "$PID"
  wait_for 5 test ! -e "$FOLDER"
  # a Slurm that ends the guard with the job
  job_with_secrets 7
  kill -KILL -- "-$GUARD"
  kill -KILL "$PID"
  first=$FOLDER kept=$BATS_TEST_TMPDIR/scratch/hab-9.abcdef
  # of another node that shares the folder, and of another scheduler
  cp -r "$first" "$kept"
  sed -i 1s/n1/n2/ "$kept/job"
  cp -r "$first" "$BATS_TEST_TMPDIR/scratch/hab-9.abcdeg"
  sed -i 3s/slurm/local/ "$BATS_TEST_TMPDIR/scratch/hab-9.abcdeg/job"
  # one that the scheduler says lives
  cp -r "$first" "$BATS_TEST_TMPDIR/scratch/hab-8.abcdef"
  # and one whose script does, whatever the scheduler says
  job_with_secrets 6
  second=$FOLDER
  local living=$PID
  job_with_secrets 10
  wait_for 10 test ! -e "$first"
  [[ -e $kept && -e $BATS_TEST_TMPDIR/scratch/hab-9.abcdeg && -e $BATS_TEST_TMPDIR/scratch/hab-8.abcdef && -e $second/endpoints/env && -e $FOLDER/endpoints/env ]]
  kill -KILL "$living" "$PID"
  wait_for 5 test ! -e "$second"
}
