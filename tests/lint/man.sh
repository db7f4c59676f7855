#!/usr/bin/env bash
# mandoc over every man page: any warning is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."
shopt -s nullglob
pages=(man/*.[1-7])
((${#pages[@]} == 0)) || mandoc -T lint -W warning "${pages[@]}"
echo "${#pages[@]} pages, no findings"
