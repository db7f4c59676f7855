#!/usr/bin/env bats
# why: what keeps an object alive.

load common

shopt -s extglob

# python ARGUMENT...: with the package of this build; the test is skipped where there is none.
python()
{
    "${PYTHON:-python3}" "$@"
}

need_python()
{
    python -c 'import shobj' 2>/dev/null || skip "no Python package for ${PYTHON:-python3}"
}

# oid KEY: the id of the root's value there.
oid()
{
    python -c 'import shobj, sys; print(f"{shobj.open_store(sys.argv[1]).root[sys.argv[2]].oid:016x}")' \
        "$SHOBJ_DIR/bank" "$1"
}

@test "the path that leads to an object, escaped as addresses are" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "{'b': [0, {'c~/d': ({}, 5, ([],))}], 1: {}, '': {}, (1, 'x'): [[]]}"
    # shellcheck disable=SC2088 # no home directory
    for path in /a /a/b /a/b/1 /a/b/1/c~0~1d/0 /a/b/1/c~0~1d/2/0 '/a/~=1' "/a/~=''" "/a/~=(1, 'x')" "/a/~=(1, 'x')/0"; do
        prints "root	-	-	$path" shobj why "bank:$path"
    done
    prints "root	-	-	" shobj why bank:
    exits 0 shobj why --json bank:/a/b
    jq -e '. == [{"keeper": "root", "path": "/a/b"}]' <<<"$output"
}

@test "what an answer says is an address of the object" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/deep <<<"[[[[[[[[[[{\"x\": [1]}]]]]]]]]]]"
    exits 0 shobj load bank:/wide <<<"[$(for i in {1..200}; do printf '{"i": [%d]},' "$i"; done)[]]"
    for address in bank:/deep/0/0/0/0/0/0/0/0/0/0/x bank:/wide/137/i bank:/wide/200; do
        exits 0 shobj why "$address"
        is "root	-	-	${address#bank:}"
    done
}

@test "several containers, several answers; the shortest path of each" {
    exits 0 shobj create bank
    # shellcheck disable=SC2016 # "$ref" and "$tuple" are no variables
    exits 0 shobj load bank: <<<'{"one": {"x": {"shared": []}},
        "two": [1, {"$tuple": [2, {"$ref": "/one/x/shared"}]}],
        "three": {"shared": {"$ref": "/one/x/shared"}, "again": {"$ref": "/one/x/shared"}},
        "deep": {"one": {"$ref": "/one"}}, "ring": [{"back": {"$ref": "/ring"}}]}'
    exits 0 shobj why bank:/one/x/shared
    [[ $(sort <<<"$output") == $'root\t-\t-\t/one/x/shared\nroot\t-\t-\t/three/shared\nroot\t-\t-\t/two/1/1' ]]
    exits 0 shobj why -n 1 bank:/one/x/shared
    (($(wc -l <<<"$output") == 1))
    prints "root	-	-	/ring/0" shobj why bank:/ring/0
    exits 0 shobj why bank:/ring
    [[ $(sort <<<"$output") == $'root\t-\t-\t/ring' ]]
    exits 0 shobj why bank:/deep/one
    [[ $(sort <<<"$output") == $'root\t-\t-\t/deep/one\nroot\t-\t-\t/one' ]]
}

@test "proxies and transactions of other processes are named, with the way from what they keep" {
    need_python
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "{'b': [{}, {}]}"
    mkfifo go
    "${PYTHON:-python3}" - "$SHOBJ_DIR/bank" >said 3>&- <<'PYTHON' &
import shobj, sys
store = shobj.open_store(sys.argv[1], "w")
a, b0 = store.root["a"], store.root["a"]["b"][0]
print(f"{a.oid:016x} {b0.oid:016x} {a['b'][1].oid:016x}", flush=True)
go = open("go")
go.readline()

@store.atomic
def work():
    store.root["made"] = {}
    made = store.root["made"].oid # the proxy has gone
    with open("made-id", "w") as file:
        file.write(f"{made:016x}\n")
    go.readline()

work()
print("over", flush=True)
go.readline()
PYTHON
    pid=$!
    exec 7<>go
    eventually test -s said
    read -r a b0 b1 <said
    exits 0 shobj why "bank:@$b0"
    [[ $(sort <<<"$output") == "pin	$pid	-	@$b0
root	-	-	/a/b/0" ]]
    exits 0 shobj why "bank:@$a"
    [[ $(sort <<<"$output") == "pin	$pid	-	@$a
root	-	-	/a" ]]
    exits 0 shobj del bank:/a
    exits 0 shobj why --json "bank:@$b1"
    jq -e --argjson pid "$pid" --arg path "@$a/b/1" 'length == 1 and .[0].keeper == "pin" and .[0].pid == $pid and .[0].path == $path' <<<"$output"
    exits 0 shobj gc -n --json bank
    jq -e --argjson pid "$pid" '.would_free == 0 and .held_objects != 0 and (.holders | length == 1) and
        .holders[0].what == "pins" and .holders[0].pid == $pid and .holders[0].objects == 4 and .holders[0].bytes > 0' <<<"$output"
    exits 0 shobj stat --json --holders bank
    jq -e --argjson pid "$pid" '.holders[0].pid == $pid' <<<"$output"
    echo >&7
    eventually test -s made-id
    made=$(<made-id)
    exits 0 shobj why "bank:@$made"
    [[ $output == "transaction	$pid	"+([0-9])"	@$made" ]]
    echo >&7
    eventually grep -q over said
    prints "root	-	-	/made" shobj why "bank:@$made"
    kill "$pid"
    wait "$pid" || true
    exec 7>&-
    exits 0 shobj gc bank
    exits 1 shobj why "bank:@$a"
    says "*gone*"
}

@test "nothing keeps what has been deleted" {
    exits 0 shobj create bank
    need_python
    exits 0 shobj set bank:/a "[[1]]"
    id=$(oid a)
    prints "root	-	-	/a" shobj why "bank:@$id"
    exits 0 shobj del bank:/a
    exits 1 shobj why "bank:@$id"
    is ""
    exits 1 shobj why --json "bank:@$id"
    is "[]"
    exits 0 shobj gc bank
    exits 1 shobj why "bank:@$id"
    says "*gone*"
}

@test "why refuses what is no object" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "[1, 'x']"
    exits 1 shobj why bank:/a/0
    says "*int*"
    exits 1 shobj why bank:/nothing
    exits 3 shobj why nowhere:/a
    exits 2 shobj why
    exits 2 shobj why -n 0 bank:/a
}
