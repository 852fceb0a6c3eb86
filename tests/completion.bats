# completion.bash: what bash itself would be given for a line that is being typed.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  make_site local none
  cd "$BATS_TEST_TMPDIR"
  # nothing but files: whatever is started is noted
  mkdir bin
  for tool in python3 python squeue sbatch scontrol sinfo sacct apptainer ssh curl git; do
    printf '#!/bin/bash\necho "%s $*" >>%q\nexit 9\n' "$tool" "$BATS_TEST_TMPDIR/started" >"bin/$tool"
    chmod +x "bin/$tool"
  done
}

completed() { # completed WORD…: sets REPLY_WORDS to what the last word is completed to
  local words
  mapfile -t REPLY_WORDS < <(PATH=$BATS_TEST_TMPDIR/bin:$PATH bash --norc -c '
    source "$1/scripts_hpc/completion.bash" || exit 1
    shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
    spec=$(complete -p "${1##*/}") || exit 1
    [[ $spec =~ -F\ ([a-z_]+) ]]
    "${BASH_REMATCH[1]}" "$1" "${@: -1}" "${@: -2:1}"
    printf "%s\n" "${COMPREPLY[@]}"' completion "$ROOT" "$@")
  words=${REPLY_WORDS[*]}
  output=$words
}
expect_words() { [[ $output == "$*" ]] || { printf 'expected: %s\nfound:    %s\n' "$*" "$output" && return 1; }; }

@test "verbs, by relative path, absolute path and name alone" {
  local command
  for command in "$ROOT/scripts_hpc/jobs.sh" jobs.sh; do
    completed "$command" sta
    expect_words status
  done
  cd "$ROOT"
  completed ./scripts_hpc/jobs.sh ''
  expect_in 'status logs stop why attach grade clean list' "$output"
  completed scripts_hpc/site.sh ''
  expect_in 'init doctor list show validate' "$output"
  completed scripts_hpc/tasks.sh ''
  expect_words 'list show types create generate-data validate config'
}

@test "a script of the same name that is somebody else's is left alone" {
  touch jobs.sh
  completed ./jobs.sh sta
  expect_words ''
}

@test "every option of every header, and no other" {
  local script options
  for script in "$ROOT"/scripts_hpc/*.sh; do
    # as a person reads them: what a line of the list begins with
    mapfile -t options < <(sed -n '/^#/!q; s/^# \{2,4\}\(-[a-z], \)\?\(--[a-z-]*[a-z]\).*/\2/p' "$script" | sort -u)
    completed "$script" --
    for option in "${options[@]}"; do [[ " $output " == *" $option "* ]] || { echo "$script: $option is not in: $output" && return 1; }; done
    for option in "${REPLY_WORDS[@]}"; do
      sed '/^#/!q' "$script" | grep -qe "$option" || { echo "$script: what is $option?" && return 1; }
    done
  done
  completed "$ROOT/scripts_hpc/run_workflow.sh" --m
  expect_words --model-set
  completed "$ROOT/scripts_hpc/run_workflow.sh" --reuse
  expect_words '--reuse-grading --reuse-model'
}

@test "sites, models, agents with their variants, tasks" {
  completed run_workflow.sh --site del
  expect_words della
  completed run_workflow.sh --site = del
  expect_words della
  completed site.sh show per
  expect_words perlmutter
  completed run_workflow.sh --agent exp
  expect_words 'experiment experiment/data-analysis experiment/ml experiment/dl experiment/dev experiment/long'
  completed run_workflow.sh x ''
  expect_in '30b 80b coder replay' "$output"
  completed models.sh download co
  expect_words coder
  completed run_workflow.sh classification
  expect_words classification_basic
  completed tasks.sh show reg
  expect_words regression_basic
  completed run_workflow.sh a b c d o
  expect_words 'on off'
  completed run_workflow.sh --cleanup of
  expect_words off
}

@test "tasks that are prepared, and a user's own, as the site's file says where they are" {
  make_task 'spaceship-titanic'
  mkdir -p own/mine && touch own/mine/prepare.py own/made.json
  completed run_workflow.sh --site "$SITE_FILE" spa
  expect_words spaceship-titanic
  completed prepare_tasks.sh --site "$SITE_FILE" --set paths.tasks = "$BATS_TEST_TMPDIR/own" x m
  expect_in 'made' "$output"
  expect_in 'mine' "$output"
}

@test "runs, the newest first, wherever paths.runs is" {
  mkdir -p runs/2026-01-0{1,2}T03-04-05-UTC_run-group_aide runs/logs
  completed jobs.sh logs --site "$SITE_FILE" ''
  expect_words '2026-01-02T03-04-05-UTC_run-group_aide 2026-01-01T03-04-05-UTC_run-group_aide'
  HPC_SITE=$SITE_FILE completed jobs.sh logs 2026-01-01
  expect_words 2026-01-01T03-04-05-UTC_run-group_aide
  completed jobs.sh why --set paths.runs = "$BATS_TEST_TMPDIR/runs" 2026-01-02
  expect_words 2026-01-02T03-04-05-UTC_run-group_aide
  HPC_PATHS__RUNS=$BATS_TEST_TMPDIR/runs completed run_workflow.sh --attach 2026-01-02
  expect_words 2026-01-02T03-04-05-UTC_run-group_aide
  printf 'extends: here.yaml\npaths: {data: /x}\n' >child.yaml
  completed jobs.sh logs --site "$BATS_TEST_TMPDIR/child.yaml" 2026-01-02
  expect_words 2026-01-02T03-04-05-UTC_run-group_aide
  # shellcheck disable=SC2016 # as it stands in the file
  printf 'paths:\n  runs: ${BATS_TEST_TMPDIR}/${NOTHING:-runs}   # here\n' >variables.yaml
  completed jobs.sh logs --site "$BATS_TEST_TMPDIR/variables.yaml" 2026-01-02
  expect_words 2026-01-02T03-04-05-UTC_run-group_aide
  completed jobs.sh list ''
  expect_words ''
}

@test "a site file that runs commands or needs variables that aren't set is only a text" {
  # shellcheck disable=SC2016
  printf 'paths: {runs: "$(touch pwned)/${NOT_SET_AT_ALL}", data: `touch pwned`}\n' >bad.yaml
  completed jobs.sh logs --site "$BATS_TEST_TMPDIR/bad.yaml" ''
  expect_words ''
  completed run_workflow.sh --site "$BATS_TEST_TMPDIR/bad.yaml" spa
  [[ ! -e pwned ]]
  completed jobs.sh logs --site nowhere ''
}

@test "under 0.15 s a word with 10,000 runs; nothing is started" {
  mkdir -p runs && (cd runs && seq -f '2026-01-01T03-04-05-UTC_%05.0f_run-group_aide' 10000 | xargs mkdir)
  cat >measure <<'SH'
source "$1/scripts_hpc/completion.bash"
shift
for line; do
  best=9999
  for try in 1 2 3 4 5; do
    read -ra COMP_WORDS <<<"$line"
    [[ $line != *' ' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    # what it takes of a processor: others may be at work on this machine
    { TIMEFORMAT='%3U %3S' && time _hab_complete; } 2>took
    read -r user system <took
    took=$((10#${user/./} + 10#${system/./}))
    ((took >= best)) || best=$took
  done
  echo "$best ms, ${#COMPREPLY[@]} words: $line"
  ((best < 150 && ${#COMPREPLY[@]})) || exit 1
done
SH
  # in a bash of its own: bats looks at each line that it runs
  LC_ALL=C PATH=$BATS_TEST_TMPDIR/bin:$PATH bash measure "$ROOT" "jobs.sh logs --site $SITE_FILE " 'run_workflow.sh ' 'jobs.sh logs --' 'run_workflow.sh --agent '
  [[ ! -e started ]]
}

@test "bash itself completes with it at a real prompt" {
  command -v script >/dev/null || skip 'needs script(1)'
  printf 'source %q\nPS1="> "\nbind "set bell-style none"\n' "$ROOT/scripts_hpc/completion.bash" >rc
  printf '%s' "$ROOT/scripts_hpc/jobs.sh stat"$'\t'$'\x01'"echo "$'\n'"exit"$'\n' >typed
  : >out
  # what is typed before there is a prompt, nobody completes
  { wait_for 10 grep -q '> ' out && cat typed; } |
    TERM=dumb timeout 20 script -qfec "bash --rcfile rc -i" /dev/null >out 2>&1 || true
  tr -d '\r' <out >shown
  grep -qx "$ROOT/scripts_hpc/jobs.sh status" shown || { cat -v out && return 1; }
}
