#!/usr/bin/env bash
# Installs the build in $SHOBJ_BUILD into an empty folder and uses it as others do: a C program found by pkg-config, one
# found by CMake, and the Python examples run by the interpreter $1.
set -euo pipefail
python=$1
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
export SHOBJ_DIR=$work/stores
mkdir "$SHOBJ_DIR"
trap 'rm -rf "$work"' EXIT

cmake --install "$SHOBJ_BUILD" --prefix "$work/prefix" >"$work/install.log"
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name shobj.pc)")
export PKG_CONFIG_PATH
library=$(pkg-config --variable=libdir shobj)

echo "-- bank.c, shared library, by pkg-config"
# shellcheck disable=SC2046  # the flags are words
cc -Wall -Wextra -Werror examples/bank.c $(pkg-config --cflags --libs shobj) -o "$work/bank"
LD_LIBRARY_PATH=$library "$work/bank" c-bank 3 2000

echo "-- bank.c, static library, by pkg-config"
# shellcheck disable=SC2046
cc -Wall -Wextra -Werror -fno-lto examples/bank.c $(pkg-config --cflags shobj) "$library/libshobj.a" -pthread -o "$work/bank-static"
"$work/bank-static" c-bank 3 2000

echo "-- bank.c, by find_package(shobj)"
mkdir "$work/project"
cat >"$work/project/CMakeLists.txt" <<TEXT
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C)
find_package(shobj 0.1 REQUIRED)
add_executable(bank $PWD/examples/bank.c)
target_link_libraries(bank PRIVATE shobj::shobj)
TEXT
cmake -S "$work/project" -B "$work/project/build" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/configure.log"
cmake --build "$work/project/build" >"$work/build.log"
"$work/project/build/bank" c-bank 3 2000

echo "-- a wrong argument is refused"
if "$work/bank-static" c-bank many 2>"$work/message"; then
    echo "bank took 'many' for a number" >&2
    exit 1
fi
grep -q "PROCESSES must be a positive number, not 'many'" "$work/message"

echo "-- bank.py"
"$python" examples/bank.py demo
[[ -z $(ls "$SHOBJ_DIR") ]] || { echo "left behind: $(ls "$SHOBJ_DIR")" >&2; exit 1; }

echo "-- words.py"
mkdir "$work/sources"
for number in {1..40}; do
    echo "import module_$number; common = $number  # common, import" >"$work/sources/file_$number.py"
done
"$python" examples/words.py add words "$work/sources"
"$python" examples/words.py count words 0/2 &
helper=$!
"$python" examples/words.py count words 1/2
wait "$helper"
"$python" examples/words.py top words 2 | tee "$work/top"
diff <(printf '%8d %s\n' 80 import 80 common) "$work/top"
