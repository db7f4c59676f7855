#!/usr/bin/env bats
# Stores: create, open, rm, ls, stat, ps, check.

load common

# holds ADDRESS VALUE
holds()
{
    [[ $(shobj get "$1" 2>/dev/null) == "$2" ]]
}

@test "a new store is empty and whole" {
    exits 0 shobj create bank
    is ""
    prints "{}" shobj get bank:
    prints "bank" shobj ls
    prints "" shobj ls bank:
    exits 0 shobj check bank
    is "$SHOBJ_DIR/bank: whole"
    exits 0 shobj check --json bank
    jq -e '.whole and .problems == []' <<<"$output"
}

@test "a new store takes little memory, however large it may grow" {
    for max in 64M 16G 100G; do
        exits 0 shobj create --max-size $max "store$max"
        exits 0 shobj stat --json "store$max"
        jq -e '.file_bytes < 8000000' <<<"$output"
        (($(stat -c '%b * 512' "$SHOBJ_DIR/store$max") < 8000000))
        exits 0 shobj rm "store$max"
    done
}

# Each command is a process of its own. Nothing that they do walks over what there is only room for.
@test "a store of 100 GiB is used by several processes, and has memory for what is in it" {
    allocated() { stat -c '%b * 512' "$SHOBJ_DIR/huge"; }
    exits 0 shobj create --max-size 100G huge
    exits 0 shobj stat --json huge
    jq -e '.max_bytes == 107374182400' <<<"$output"
    (($(allocated) < 2500000))
    before=$(($(allocated)))
    exits 0 shobj set huge:/list "[1, 'two', {'three': 3}]"
    prints "[1, 'two', {'three': 3}]" shobj get huge:/list
    exits 0 shobj load huge:/numbers <<<"[$(seq -s, 1 20000)]"
    prints 20000 shobj get huge:/numbers/-1
    exits 0 shobj del huge:/numbers
    exits 0 shobj gc huge
    exits 0 shobj check huge
    after=$(($(allocated)))
    (($(stat -c %s "$SHOBJ_DIR/huge") > 1000000000)) # its tables have their place already
    ((before < 2500000 && after - before < 1500000)) || {
        echo "$before bytes of memory in the new store, $after after its use"
        return 1
    }
}

@test "create makes what its options say" {
    exits 0 shobj create --size 2M --max-size 64MiB --mode 640 --json bank
    jq -e '.max_bytes == 67108864 and .size_bytes >= 2097152' <<<"$output"
    [[ $(stat -c %a "$SHOBJ_DIR/bank") == 640 ]]
    exits 7 shobj create bank
    says "*bank*exists*"
    for bad in x -5 5X 99999999999999T ""; do
        exits 2 shobj create "--size=$bad" other
        says "*--size*"
    done
    exits 2 shobj create --mode 999 other
    exits 2 shobj create other:/path
    prints "bank" shobj ls
}

@test "a path with a slash is the path of a file" {
    exits 0 shobj create ./here
    [[ -f here ]]
    exits 0 shobj set ./here:/a 1
    prints 1 shobj get "$PWD/here:/a"
    prints "" shobj ls
    exits 0 shobj rm ./here
    [[ ! -e here ]]
}

@test "open prints a summary, and makes a store with --create only" {
    exits 3 shobj open bank
    says "shobj open:*bank*"
    exits 0 shobj open --create bank
    [[ $output == *"path	$SHOBJ_DIR/bank"* && $output == *"max_bytes	"* ]]
    exits 0 shobj open --json bank
    jq -e '.path and .uuid and .objects == 1' <<<"$output"
}

@test "rm removes, several at once, and goes on after one that is missing" {
    exits 0 shobj create a
    exits 0 shobj create b
    exits 3 shobj rm a nothing b
    says "*nothing*"
    prints "" shobj ls
    exits 0 shobj create a
    prints '{"removed": ["a"]}' shobj rm --json a
}

@test "ls -l shows size and time of stores, --json everything" {
    exits 0 shobj create a
    exits 0 shobj create b
    exits 0 shobj ls -l
    [[ ${output//$'\t'/|} =~ ^[0-9]+\|[-0-9]+\ [:0-9]+\|a ]]
    exits 0 shobj ls --json
    jq -e 'map(.name) == ["a", "b"] and all(.bytes > 0)' <<<"$output"
}

@test "stat shows counters that move" {
    exits 0 shobj create bank
    exits 0 shobj stat --json bank
    before=$(jq .commits <<<"$output")
    exits 0 shobj set bank:/a "[1, 2]"
    exits 0 shobj stat --json bank
    (($(jq .commits <<<"$output") > before))
    jq -e '.objects == 2' <<<"$output"
    exits 0 shobj stat bank
    [[ $output == *$'\nobjects\t2\n'* ]]
    exits 0 shobj stat -i 0.01 -n 3 bank
    (($(wc -l <<<"$output") == 3))
    exits 0 shobj stat -i 0.01 -n 2 --json bank
    jq -es 'length == 2 and all(.objects == 2)' <<<"$output"
    exits 2 shobj stat -n 2 bank
    exits 2 shobj stat -i never bank
    exits 2 shobj stat bank:/a
}

@test "ps shows the sessions of others, and cleans up after the dead" {
    exits 0 shobj create bank
    prints "" shobj ps bank
    prints "[]" shobj ps --json bank
    mkfifo lines
    script -qefc "shobj open bank" /dev/null <lines >shown 3>&- &
    exec 7>lines
    echo "set /a 1" >&7
    eventually holds bank:/a 1
    exits 0 shobj ps --json bank
    pid=$(jq 'map(select(.alive)) | .[0].pid' <<<"$output")
    exits 0 shobj ps bank
    [[ $output == *$'\t'"$pid"$'\t'* ]]
    exits 7 shobj rm bank
    says "*"
    kill -KILL "$pid"
    exec 7>&-
    wait || true
    exits 0 shobj ps --reap bank
    is ""
    # shellcheck disable=SC2154 # exits() sets it
    [[ $stderr == "cleaned up after "[01]" dead process"* ]] # who came first may have done it already
    prints "" shobj ps bank
    exits 0 shobj rm bank
}

@test "rm --force removes a store that is open" {
    exits 0 shobj create bank
    mkfifo lines
    script -qefc "shobj open bank" /dev/null <lines >shown 3>&- &
    exec 7>lines
    echo "set /a 1" >&7
    eventually holds bank:/a 1
    exits 0 shobj rm --force bank
    exits 3 shobj get bank:
    echo "exit" >&7
    exec 7>&-
    wait || true
}
