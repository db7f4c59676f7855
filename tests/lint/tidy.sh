#!/usr/bin/env bash
# clang-tidy over every C file that the build in the folder $1 compiles.
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/../.."
# Flags that only gcc knows would be errors to clang.
trimmed=$(mktemp -d)
trap 'rm -rf "$trimmed"' EXIT
sed -E 's/ -flto=auto| -ffat-lto-objects//g' "$build/compile_commands.json" >"$trimmed/compile_commands.json"
jq -r '.[].file' "$trimmed/compile_commands.json" | sort -u |
    xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p "$trimmed"
