#!/usr/bin/env bash
# Usage: requirements/lock.sh [NAME…]      renews the locks NAME.txt of NAME.in (default: all), for Python 3.10 and newer, any platform
#
# Needs uv. aide-nodeps.txt is written by hand: AIDE itself, installed without its own list.
#
#   -h, --help         this text
#
# Exit codes: 0 done; 2 usage, or there is no uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts_hpc/lib/common.sh
source scripts_hpc/lib/common.sh
case ${1:-} in -h | --help) common::usage "${BASH_SOURCE[0]}" && exit 0 ;; esac
command -v uv >/dev/null || die 2 "locking needs uv: python3 -m pip install uv"
names=("$@")
if ((${#names[@]} == 0)); then
  # grading, dev and prepare stand on core, experiment on agent-packages
  names=(core agent-packages)
  for file in requirements/*.in; do
    name=$(basename "$file" .in)
    [[ " ${names[*]} " == *" $name "* ]] || names+=("$name")
  done
fi
for name in "${names[@]}"; do
  [[ -f requirements/$name.in ]] || die 2 "there is no requirements/$name.in"
  uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate "requirements/$name.in" -o "requirements/$name.txt"
done
