#!/usr/bin/env bash
set -eu
code=0
said=$(python3 words.py no-such-file.txt 2>&1) || code=$?
echo "exit code $code: $said"
[[ $code == 2 && $said == 'words.py: no-such-file.txt: no such file' ]]
