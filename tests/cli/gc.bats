#!/usr/bin/env bats
# gc, and what stat tells of memory.

load common

# Another process: a prompt that reads commands from descriptor 7.
other()
{
    mkfifo lines
    script -qefc "shobj open $1" /dev/null <lines >shown 3>&- &
    exec 7>lines
}

end_other()
{
    exec 7>&-
    wait || true
}

# figure NAME: of the JSON that the last command wrote.
figure()
{
    jq -r ".$1" <<<"$output"
}

holds()
{
    [[ $(shobj get "$1" 2>/dev/null) == "$2" ]]
}

@test "what is deleted is freed, and stat tells of it" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/keep "[{'a': 1}, {'b': (2, [3])}]"
    exits 0 shobj set bank:/drop "{'x': [{'y': 1}, {'z': 2}], 't': 'some text that takes a block of its own'}"
    exits 0 shobj del bank:/drop
    exits 0 shobj stat --json bank
    blocks=$(figure blocks)
    exits 0 shobj gc --json bank
    (($(figure freed) >= 5))
    freed=$(figure freed)
    live=$(figure live_bytes)
    jq -e '.freed_bytes > 0 and .held_slabs == 0 and .seconds > 0' <<<"$output"
    exits 0 shobj stat --json bank
    (($(figure blocks) == blocks - freed))
    [[ $(figure gc_freed) == "$freed" && $(figure live_bytes) == "$live" ]]
    jq -e '.objects == 5 and .used_bytes == .live_bytes and .collections >= 1 and .gc_phase == "idle"' <<<"$output"
    jq -e '.gc_marked == .blocks and .gc_began_ns > 0 and .gc_mark_ended_ns >= .gc_began_ns and
        .gc_ended_ns >= .gc_mark_ended_ns' <<<"$output"
    prints "[{'a': 1}, {'b': (2, [3])}]" shobj get bank:/keep
    exits 0 shobj check bank
}

@test "cycles are freed" {
    exits 0 shobj create bank
    # shellcheck disable=SC2016 # "$ref" is no variable
    exits 0 shobj load bank: <<<'{"ring": {"next": {"next": {"next": {"$ref": "/ring"}}}}, "self": [{"$ref": "/self"}]}'
    exits 0 shobj stat --json bank
    jq -e '.objects == 5' <<<"$output"
    exits 0 shobj gc bank
    exits 0 shobj stat --json bank
    jq -e '.objects == 5' <<<"$output"
    exits 0 shobj del bank:/self
    exits 0 shobj del bank:/ring
    exits 0 shobj gc bank
    exits 0 shobj stat --json bank
    jq -e '.objects == 1' <<<"$output"
}

@test "-n tells what gc would free, exactly, and changes nothing" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/big <<<"[$(seq -s, 1 3000)]"
    exits 0 shobj set bank:/small "{'a': [1], 'b': ([2], 'x')}"
    exits 0 shobj gc bank
    exits 0 shobj gc -n --json bank
    jq -e '.would_free == 0 and .would_free_bytes == 0 and .held == 0 and .holders == [] and .exact' <<<"$output"
    reachable=$(figure reachable)
    exits 0 shobj stat --json bank
    [[ $reachable == "$(figure blocks)" ]]
    exits 0 shobj del bank:/big
    exits 0 shobj del bank:/small
    exits 0 shobj stat --json bank
    before=$(jq -c '[.blocks, .used_bytes, .collections, .commits]' <<<"$output")
    exits 0 shobj gc --dry-run --json bank
    jq -e '.would_free_objects == 4 and .exact' <<<"$output"
    promised=$(jq -c '[.would_free, .would_free_bytes]' <<<"$output")
    exits 0 shobj stat --json bank
    [[ $(jq -c '[.blocks, .used_bytes, .collections, .commits]' <<<"$output") == "$before" ]]
    exits 0 shobj gc --json -j 2 bank
    [[ $(jq -c '[.freed, .freed_bytes]' <<<"$output") == "$promised" ]]
    exits 0 shobj gc -n bank
    [[ $output == *$'would_free\t0\n'*$'exact\tyes'* ]]
}

@test "who keeps what the root does not lead to is named, with the bytes" {
    command -v script >/dev/null || skip "no script(1)"
    exits 0 shobj create bank
    exits 0 shobj set bank:/mine "{'a': [1, 2], 'b': {'c': 'some text that takes a block of its own'}}"
    other bank
    echo "get /mine/b" >&7
    eventually grep -q "takes a block" shown
    exits 0 shobj stat --json bank
    exits 0 shobj ps --json bank
    pid=$(jq '.[0].pid' <<<"$output")
    # Its session keeps free blocks for itself once it has written, and is named with them.
    echo "set /theirs [1]" >&7
    eventually holds bank:/theirs "[1]"
    exits 0 shobj stat --json bank
    jq -e --argjson pid "$pid" '.kept | length == 1 and .[0].pid == $pid and .[0].kept_bytes > 0' <<<"$output"
    (($(figure kept_bytes) >= $(jq '.kept[0].kept_bytes' <<<"$output")))
    exits 0 shobj stat bank
    [[ $output == *$'\nkeeps\t'*$'\t'"$pid"$'\t'* ]]
    end_other
    exits 0 shobj stat --json bank
    jq -e '.kept == []' <<<"$output"
}

@test "a stopped process that has begun to sweep holds nobody up, and is named" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "[[1], [2]]"
    exits 0 shobj del bank:/a
    SHOBJ_FAULT=stop:1@sweep.claimed shobj gc bank >/dev/null 2>&1 3>&- &
    stopped=$!
    is_stopped()
    {
        [[ $(sed 's/.*) //; s/ .*//' "/proc/$stopped/stat" 2>/dev/null || echo Z) == [TZ] ]]
    }
    eventually is_stopped
    [[ $(sed 's/.*) //; s/ .*//' "/proc/$stopped/stat" 2>/dev/null) == T ]] || skip "no fault points in this build"
    exits 0 shobj gc --json bank
    jq -e '.held_slabs == 1' <<<"$output"
    exits 0 shobj stat --json --holders bank
    jq -e --argjson pid "$stopped" '.gc_held_slabs == 1 and (.kept | map(select(.pid == $pid)) | .[0].kept_bytes >= 65536)' \
        <<<"$output"
    exits 0 shobj set bank:/b "[3]"
    kill -KILL "$stopped"
    wait "$stopped" || true
    exits 0 shobj gc --json bank
    jq -e '.held_slabs == 0' <<<"$output"
    exits 0 shobj stat --json bank
    jq -e '.objects == 2 and .kept == []' <<<"$output"
    exits 0 shobj check bank
}

@test "stat --classes tells what each size of blocks takes" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/text "'$(printf 'x%.0s' {1..1000})'"
    exits 0 shobj set bank:/wide "'$(printf 'y%.0s' {1..70000})'"
    exits 0 shobj set bank:/long "'$(printf 'z%.0s' {1..130000})'"
    exits 0 shobj stat --json --classes bank
    jq -e '.classes | map(.kind) | index("node") == 0 and (index("box") != null) and .[-1] == "run"' <<<"$output"
    jq -e '([.classes[].used_bytes] | add) == .used_bytes and ([.classes[].used] | add) == .blocks' <<<"$output"
    jq -e '([.classes[].slabs] | add) == .slabs' <<<"$output"
    jq -e '.classes | map(select(.kind == "run")) | .[0].used == 1 and .[0].slabs == 2 and .[0].occupancy == 1' <<<"$output"
    jq -e '.classes | map(select(.kind == "box" and .used == 1 and .block_bytes >= 1000)) | length == 2' <<<"$output"
    jq -e '.classes | map(select(.block_bytes >= 70000)) | length == 1 and .[0].used == 1 and .[0].slabs > 1' <<<"$output"
    jq -e '.fragmentation > 0 and .fragmentation < 1' <<<"$output"
    exits 0 shobj stat --classes bank
    [[ $output == *$'\nrun\t0\t2\t1\t0\t100.0%'* && $output == *$'\nfragmentation\t'*% ]]
}

@test "--growth says when collections begin by themselves" {
    exits 0 shobj create bank
    exits 0 shobj gc --growth 40 bank
    is ""
    exits 0 shobj stat --json bank
    jq -e '.gc_growth == 40 and .collections == 0' <<<"$output"
    exits 0 shobj gc --growth never bank
    exits 0 shobj stat --json bank
    jq -e '.gc_growth == null' <<<"$output"
    exits 0 shobj stat bank
    [[ $output == *$'\ngc_growth\tnone\n'* ]]
    for bad in 0 -1 much ""; do
        exits 2 shobj gc "--growth=$bad" bank
        says "*growth*"
    done
}

@test "--trim gives free memory back, and it comes back as it is needed" {
    exits 0 shobj create bank
    exits 0 shobj gc --growth never bank
    exits 0 shobj set bank:/keep "[{'a': 1}, 'some text that takes a block of its own']"
    exits 0 shobj load bank:/big <<<"[$(seq -f '{"n": %g, "t": "some text that takes a block of its own"}' -s, 1 30000)]"
    exits 0 shobj dump bank:/big
    big=$output
    size=$(stat -c '%b * 512' "$SHOBJ_DIR/bank")
    exits 0 shobj gc --trim --json bank
    (($(stat -c '%b * 512' "$SHOBJ_DIR/bank") <= size)) # nothing to be freed in what is in use
    exits 0 shobj del bank:/big
    exits 0 shobj gc --trim --json bank
    jq -e '.freed > 60000 and .trimmed_bytes > 3000000' <<<"$output"
    (($(stat -c '%b * 512' "$SHOBJ_DIR/bank") < size / 2))
    exits 0 shobj stat --json bank
    jq -e '.given_slabs > 40 and .given_slabs <= .free_slabs and .free_bytes < 1000000 and .file_bytes < .size_bytes' <<<"$output"
    (($(figure file_bytes) == $(stat -c '%b * 512' "$SHOBJ_DIR/bank")))
    exits 0 shobj check bank
    exits 0 shobj gc --trim --json bank
    jq -e '.trimmed_bytes == 0' <<<"$output"
    prints "[{'a': 1}, 'some text that takes a block of its own']" shobj get bank:/keep
    exits 0 shobj load bank:/big <<<"$big"
    prints "$big" shobj dump bank:/big
    exits 0 shobj stat --json bank
    jq -e '.given_slabs < 40' <<<"$output"
    exits 0 shobj check bank
}

@test "--trim is refused while others have the store open" {
    exits 0 shobj create bank
    other bank
    echo "set /theirs [1]" >&7
    eventually holds bank:/theirs "[1]"
    exits 7 shobj gc --trim bank
    says "*is in use*"
    end_other
    exits 0 shobj gc --trim bank
    [[ $output == *$'\ntrimmed_bytes\t'* ]]
    on_terminal $'gc --trim\nexit\n' shobj open bank
    [[ $output == *"is in use"* ]]
    exits 2 shobj gc -n --trim bank
}

@test "a trim that is killed half-way leaves a store that is whole" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/big <<<"[$(seq -s, 1 100000)]"
    exits 0 shobj set bank:/keep "[1]"
    exits 0 shobj del bank:/big
    for point in trim.marked trim.punched; do
        SHOBJ_FAULT=kill:1@$point shobj gc --trim bank >/dev/null 2>&1 || true
        exits 0 shobj check bank
        prints "[1]" shobj get bank:/keep
        exits 0 shobj load bank:/big <<<"[$(seq -s, 1 100000)]"
        exits 0 shobj check bank
        exits 0 shobj del bank:/big
    done
    exits 0 shobj gc --trim bank
    exits 0 shobj check bank
}

@test "ids do not come back with the memory" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/a <<<"[$(seq -f '[%g]' -s, 1 5000)]"
    exits 0 shobj ls --json bank:/a
    jq -r '.[].oid' <<<"$output" | sort >before
    (($(wc -l <before) == 5000))
    exits 0 shobj del bank:/a
    exits 0 shobj gc --trim bank
    exits 0 shobj load bank:/a <<<"[$(seq -f '[%g]' -s, 1 5000)]"
    exits 0 shobj ls --json bank:/a
    jq -r '.[].oid' <<<"$output" | sort >after
    [[ -z $(comm -12 before after) ]]
    exits 1 shobj get "bank:@$(head -1 before)"
    says "*gone*"
}

@test "gc at the prompt, and what it refuses" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "[[1]]"
    exits 0 shobj del bank:/a
    on_terminal $'gc\ngc -n\nexit\n' shobj open bank
    [[ $output =~ freed\ +2 && $output =~ would_free\ +0 ]]
    exits 3 shobj gc nothing
    exits 2 shobj gc bank:/a
    exits 2 shobj gc -j 0 bank
    exits 2 shobj gc -j many bank
    exits 2 shobj gc -n -j 2 bank
    exits 2 shobj gc
    chmod 400 "$SHOBJ_DIR/bank"
    if [[ ! -w $SHOBJ_DIR/bank ]]; then
        exits 3 shobj gc bank
        exits 0 shobj gc -n bank
    fi
}
