# shellcheck shell=bash
# Before and after all tests of this folder: the cluster, a copy of the checkout that belongs to its ordinary user, and the images.
# Images and the copy's virtual environment stay for the next time.

setup_suite() {
  local source here=$BATS_TEST_DIRNAME
  source=$(cd -P "$here/../.." && pwd)
  suite::cluster "$here"
  # shellcheck source=/dev/null
  source "$STATE/env.sh"
  export CLUSTER_TESTS=$HAB_CLUSTER_STATE/shared/tests
  export CHECKOUT=$CLUSTER_TESTS/checkout
  # shellcheck source=tests/cluster/helpers.bash
  source "$here/helpers.bash"
  suite::checkout "$source"
  suite::images
}

teardown_suite() {
  if ((${CLUSTER_WAS_UP:-1} == 0)); then
    bash "$BATS_TEST_DIRNAME/down.sh" >&2
  elif [[ ${HAB_CLUSTER_SITE:-loopback} != loopback ]]; then
    bash "$BATS_TEST_DIRNAME/up.sh" --site loopback >&2
  fi
}

suite::cluster() { # suite::cluster FOLDER: up, as the site that $HAB_CLUSTER_SITE names, with its usual configuration and all its nodes
  # shellcheck source=tests/cluster/lib.sh
  source "$1/lib.sh"
  CLUSTER_WAS_UP=0
  if cluster::alive slurmctld; then CLUSTER_WAS_UP=1; fi
  bash "$1/up.sh" --site "${HAB_CLUSTER_SITE:-loopback}" --reconfigure >&2
}

suite::checkout() { # suite::checkout ROOT: what git knows or would add, anew each time
  local old
  install -d -o "$HAB_CLUSTER_USER" -g "$HAB_CLUSTER_USER" "$CLUSTER_TESTS" "$CHECKOUT"
  while IFS= read -r -d '' old; do rm -rf "$old"; done < <(find "$CHECKOUT" -mindepth 1 -maxdepth 1 ! -name '.venv-*' -print0)
  (
    cd "$1" || exit
    git -c safe.directory="$1" ls-files -z --cached --others --exclude-standard |
      while IFS= read -r -d '' file; do if [[ -e $file ]]; then printf '%s\0' "$file"; fi; done |
      tar --create --no-recursion --null --files-from=- | tar --extract --directory="$CHECKOUT" --no-same-owner --no-same-permissions
  )
  suite::agents <"$1/tests/cluster/agents.yaml" >>"$CHECKOUT/site-config/agents.yaml"
  chown -R "$HAB_CLUSTER_USER:" "$CHECKOUT"
}

suite::agents() { # fills in the paths that the attackers go for, and what solves the repositories
  local shared=$HAB_CLUSTER_STATE/shared home text patch name
  home=$(getent passwd "$HAB_CLUSTER_USER" | cut -d: -f6)
  local paths=("$shared/data/classification_basic/prepared/private" "$shared" "$CLUSTER_TESTS/runs" "$CHECKOUT" "$CHECKOUT/.env"
    "$home" "$home/secret" "$shared/addresses" /var/tmp/hab-cluster "$HAB_CLUSTER_STATE" /root)
  text=$(sed '/^#/d')
  for patch in "${BASH_SOURCE[0]%/*}"/../repositories/solutions/*.patch; do
    name=${patch##*/}
    text=${text//@"${name%.patch}"@/"$(base64 --wrap=0 "$patch")"}
  done
  text=${text//@ATTACK_PATHS@/"$(IFS=: && printf '%s' "${paths[*]}")"}
  printf '\n%s\n' "${text//@ANSWERS@/"$shared/data/classification_basic/prepared/private/answers.csv"}"
}

suite::images() { # from the rendered definitions, as a person builds them; what is up to date stays
  local user_home
  user_home=$(getent passwd "$HAB_CLUSTER_USER" | cut -d: -f6)
  USER_VARIABLES=(MLEBENCH_SOURCE=none)
  while IFS= read -r name; do USER_VARIABLES+=("$name=${!name}"); done < <(compgen -e | grep -E '^PIP_|^SSL_CERT_FILE$|_(proxy|PROXY)$' || true)
  # a cache of pip's is of no use to anybody else
  as_user containers/build_all_containers.sh --only mlebench-env --only aide --only repository >"$user_home/build.log" 2>&1 || {
    cat "$user_home/build.log" >&2
    return 1
  }
}
