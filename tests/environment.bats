# The start of every job: modules and lines of the site are strangers' code, and whoever dies early says so.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT}
  make_site slurm none
  FOREIGN=$BATS_TEST_TMPDIR/foreign.sh
  cd "$BATS_TEST_TMPDIR"
  unset MODULESHOME LMOD_PKG LOADEDMODULES
  unset -f module
}

# A job script of the site, cut behind the preamble; what is on stdin follows it.
job() { # job YAML_OF_ENVIRONMENT [ARGUMENT…]
  printf 'environment: %s\n' "$1" >>"$SITE_FILE"
  "$ROOT/scripts_hpc/render.sh" --site "$SITE_FILE" --output rendered >/dev/null
  { sed '/^service::begin grading_server$/,$d' rendered/slurm_grading_server.sh && cat; } >slurm_script
  try bash slurm_script "${@:2}"
}

lmod() { # a cluster whose batch shells don't know `module`; its words are Lmod 8's
  mkdir -p lmod/init
  cat >lmod/init/bash <<'M'
module() {
  [[ $1 == load && $# == 2 ]] || return 99
  if [[ $2 == known/* ]]; then export LOADED="${LOADED:-} $2" PYTHONPATH=/module && return 0; fi
  printf 'Lmod has detected the following error:  The following module(s) are unknown:\n"%s"\n\nPlease check the spelling or version number.\n' "$2" >&2
  return 1
}
M
  export MODULESHOME=$PWD/lmod
}

@test "foreign code is run without strict mode, and leaves nothing of its own behind" {
  cat >"$FOREIGN" <<'F'
[ -n "$UNSET" ] && export LATE=1
[ $# = 0 ] || echo "it sees the job's arguments: $*"
false | true
set -euf -o noclobber
set -x
shopt -s failglob nocasematch
IFS=,
cd /
trap 'echo foreign trap' EXIT ERR DEBUG
ROOT=/foreign SITE=foreign SCRATCH=/foreign DATA=/foreign
log() { echo "foreign log"; }
die() { echo "foreign die"; }
export PATH=/nonexistent PYTHONHOME=/foreign FROM_FOREIGN=1
set +e
[ 1 = 2 ]
F
  printf 'echo "before $-"\n' >slurm_plain
  job "{setup: ['source $FOREIGN']}" one 'two words' <<'S'
echo "$#|$2|$-|$SITE|$SCRATCH|$PWD|$FROM_FOREIGN|${PYTHONHOME:-}"
[[ $ROOT == */* && $ROOT != /foreign && $DATA != /foreign && -o pipefail ]] && [[ a != A ]]
[[ $IFS == $' \t\n' ]] && cat /dev/null && ls /nonexistent* >/dev/null 2>&1 || true
log "our log"
date >/dev/null
trap -p DEBUG ERR
S
  expect_status 0
  [[ $(tail -n 1 <<<"$output") == "2|two words|ehuB|here|/tmp|$PWD|1|" ]] || { echo "$output" && return 1; }
  [[ $output != *"sees the job's arguments"* ]]
  expect_in "our log" "$error"
}

@test "a setup line that ends the shell is named, whatever code it gives" {
  echo 'exit 0' >"$FOREIGN"
  job "{setup: ['source $FOREIGN']}" <<<'echo not reached'
  expect_status 3
  [[ -z $output ]]
  expect_in "slurm_script: environment.setup of site here ended the job (exit code 0)" "$error"
}

@test "a setup line with a syntax error, or one that fails under its own set -e" {
  job "{setup: ['set -e', 'false']}" <<<'echo not reached'
  expect_status 3
  expect_in "environment.setup of site here ended the job (exit code 1)" "$error"
  job "{setup: ['if true; fi']}" <<<'echo not reached' || true
  expect_status 3
  expect_in "environment.setup of site here ended the job" "$error"
}

@test "module comes from the usual init files where the shell doesn't know it; each is checked by name" {
  lmod
  job "{modules: [known/1, known/2], setup: ['echo loaded:\$LOADED']}" <<<'echo "python ${PYTHONPATH:-none}"'
  expect_status 0
  [[ $output == $'loaded: known/1 known/2\npython none' ]]
  make_site slurm none
  job "{modules: [known/1, unknwon/7, known/2]}" <<<'echo not reached'
  expect_status 3
  [[ $output != *'not reached'* ]]
  expect_in "slurm_script: module unknwon/7 can't be loaded on" "$error"
  expect_in "check environment.modules of site here" "$error"
  expect_in "Lmod has detected the following error" "$error"
}

@test "a module command that fails and ends with 0 is not believed" {
  mkdir -p old/init
  # Environment Modules 3.2
  echo "module() { echo \"ModuleCmd_Load.c(213):ERROR:105: Unable to locate a modulefile for '\$2'\" >&2; return 0; }" >old/init/bash
  MODULESHOME=$PWD/old job "{modules: [cuda/12]}" <<<'echo not reached'
  expect_status 3
  expect_in "module cuda/12 can't be loaded on" "$error"
  expect_in "Unable to locate a modulefile for 'cuda/12'" "$error"
}

@test "a module whose script ends the shell is named" {
  mkdir -p bad/init
  echo 'module() { exit 1; }' >bad/init/bash
  MODULESHOME=$PWD/bad job "{modules: [cuda/12]}" <<<'echo not reached'
  expect_status 3
  expect_in "module load cuda/12 (environment.modules) of site here ended the job (exit code 1)" "$error"
}

@test "no module command anywhere: said in one sentence" {
  # as on a machine without modules, whatever this one has
  sed 's|/etc/profile|/nonexistent/profile|; s|/etc/profile.d|/nonexistent|g; s|/usr/share|/nonexistent|g' "$ROOT/scripts_hpc/lib/environment.sh" >environment.sh
  job "{modules: [cuda/12]}" </dev/null || true
  sed -i "s|^source \"\$ROOT/scripts_hpc/lib/environment.sh\"|source $PWD/environment.sh|" slurm_script
  try bash slurm_script
  expect_status 3
  expect_in 'there is no command `module` on' "$error"
  expect_in "environment.modules of site here can't be loaded" "$error"
}

@test "paths.scratch with a variable that the node doesn't have: exit 2, the key, the name" {
  sed -i 's|^paths:|paths:\n  scratch: ${NODE_DISK}/me|' "$SITE_FILE"
  job '{}' <<<'echo "$SCRATCH"'
  expect_status 2
  expect_in "slurm_script: \$NODE_DISK is not set on" "$error"
  expect_in "paths.scratch of site here" "$error"
  NODE_DISK=/disk try bash slurm_script
  expect_status 0
  [[ $output == /disk/me ]]
  # a module or a setup line may set it
  job "{setup: ['export NODE_DISK=/late']}" <<<'echo "$SCRATCH"'
  [[ $output == /late/me ]]
}

@test "what strict mode ends says what it was; die, and what a \$(…) has said, is not repeated" {
  job '{}' <<<'grep -q nothing /dev/null'
  expect_status 1
  expect_in "slurm_script: ended early: this failed with exit code 1: grep -q nothing /dev/null" "$error"
  printf '%s\n' 'die 3 "a sentence"' >tail
  { sed '$d' slurm_script && cat tail; } >next && try bash next
  expect_status 3
  [[ $error == *"runs the code of "* && $'\n'$error$'\n' == *$'\nnext: a sentence\n'* && $(wc -l <<<"$error") == 2 ]]
  printf '%s\n' 'X=$(die 2 "from within")' >tail
  { sed '$d' slurm_script && cat tail; } >next && try bash next
  expect_status 2
  [[ $(grep -c '^next: ' <<<"$error") == 1 && $error == *"next: from within"* ]]
}

@test "a checkout that the node doesn't see: exit 3, and why" {
  job '{}' <<<''
  sed -i 's|^ROOT=.*|ROOT=/not/here|' slurm_script
  try bash slurm_script
  expect_status 3
  expect_in "slurm_script: there is no /not/here on this node: the checkout must lie on a file system that compute nodes see" "$error"
}

@test "which commit a job runs is told beside its work: a git that takes its time delays nothing, and gets no lock" {
  job '{}' <<<''
  echo 'touch said' >>slurm_script
  mkdir bin
  # it goes on when the job has
  printf '#!/usr/bin/env bash\nfor ((n = 0; n < 200; n++)); do [[ ! -e said ]] || break; sleep 0.1; done\n[[ -e said ]] && echo "# branch.oid of $1"\n' >bin/git
  chmod +x bin/git
  PATH=$PWD/bin:$PATH try bash slurm_script
  expect_status 0
  expect_in "as it is now: of --no-optional-locks" "$error"
}
