#!/usr/bin/env bash
# Runs shellcheck over every shell script and bats file of the tree.
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t scripts < <(git ls-files -co --exclude-standard | while read -r file; do
    [[ -f $file ]] || continue
    case $file in
    *.sh | *.bash | *.bats) echo "$file" ;;
    *) head -c 40 -- "$file" | head -n 1 | tr -d '\0' | grep -Eq '^#!.*\b(ba)?sh\b' && echo "$file" ;;
    esac
done || true)
shellcheck --external-sources --severity=style "${scripts[@]}"
echo "${#scripts[@]} scripts, no findings"
