# Every command of the `sh` blocks of README and docs/ runs here, in order, in a copy of the checkout: on the local twin, with replay in 30b's place.
# `make test` is what runs this test.
bats_require_minimum_version 1.5.0

setup_file() { export BATS_TEST_TIMEOUT=420; }

setup() {
  load common.bash
  make_site local none
  CHECKOUT=$BATS_TEST_TMPDIR/checkout
  mkdir "$CHECKOUT"
  (cd "$ROOT" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create) | tar -x -C "$CHECKOUT"
  export HAB_VENV_DIR=$ROOT
  ln -s "$ROOT/.venv-core" "$CHECKOUT/.venv-core"
  sed -i "s|runs: .*|runs: $CHECKOUT/runs|" "$SITE_FILE"
  export HPC_SITE=$SITE_FILE
  export HPC_MODELS__30B='{engine: replay, served_name: replay, gpus: 0, steps: 1}'
  export HPC_MODELS__REPLAY='{steps: 1}'
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm
  mkdir "$FAKE_SLURM"
  PATH=$ROOT/tests/fakes/slurm:$PATH
  "$ROOT/.venv-core/bin/python" -m helpers.tasks.cli generate-data classification_basic "$BATS_TEST_TMPDIR/data" --seed 1
  cp -R "$BATS_TEST_TMPDIR/data/"{classification_basic,spaceship-titanic}
}

works() { # works FILE…: the lines of all their sh blocks, without comments, one after the other
  local command count=0 status
  cd "$CHECKOUT"
  while IFS= read -r command; do
    [[ $command != 'make test' ]] || continue
    count=$((count + 1))
    status=0
    bash -c "$command" >"$BATS_TEST_TMPDIR/out" 2>&1 </dev/null || status=$?
    ((status == 0)) || {
      printf '%s\nended with %s:\n' "$command" "$status"
      tail -n 15 "$BATS_TEST_TMPDIR/out"
      return 1
    }
  done < <(sed -n '/^ *```sh$/,/^ *```$/p' "$@" | sed -E 's/^ *//; /^```/d; s/ +# .*//; /^$/d')
  ((count >= COMMANDS))
}

# bats test_tags=slow
@test "every command of the README, and then of docs, works as it stands" {
  COMMANDS=30 works "$ROOT/README.md" "$ROOT"/docs/*.md
}

@test "every command of the README works as it stands" {
  COMMANDS=18 works "$ROOT/README.md"
  head -n 1 results.csv | grep -q '^task,model,agent,seed,state,score'
  grep -q '^spaceship-titanic,30b,aide,1,scored,' results.csv
}

@test "the links of README and docs to files and keys are true" {
  for path in $(grep -ohE '`(scripts_hpc|containers|templates|site-config|tests|helpers)/[A-Za-z0-9_./-]+`' "$ROOT/README.md" "$ROOT"/docs/*.md | tr -d '`' | sort -u); do
    [[ -e $ROOT/$path ]] || {
      printf 'README names %s, which is not there\n' "$path"
      return 1
    }
  done
  for path in $(grep -ohE '\]\(docs/[^)]+\)' "$ROOT/README.md" | tr -d '])('); do [[ -e $ROOT/$path ]] || { printf 'README links to %s\n' "$path" && return 1; }; done
}
