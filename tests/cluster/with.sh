#!/usr/bin/env bash
# Runs a command with the cluster up as the site $HAB_CLUSTER_SITE (loopback or hosts), in its environment, with the copy of the
# checkout on it and the images. Afterwards the cluster is as it was, up or down; packages and images stay.
#
# usage: tests/cluster/with.sh COMMAND [ARGUMENT…]
# Exit: the command's; else as up.sh
set -euo pipefail
BATS_TEST_DIRNAME=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/cluster/setup_suite.bash
source "$BATS_TEST_DIRNAME/setup_suite.bash"
case ${1:-} in '' | -h | --help) sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;; esac
trap teardown_suite EXIT
setup_suite >&2
"$@"
