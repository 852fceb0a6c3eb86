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
CONTAINER_ENV=([TOKEN]='a $b `c`')
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
