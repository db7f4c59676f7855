#!/usr/bin/env bats
# check of damaged stores, and their repair.
# shellcheck disable=SC2016 # "$ref" is a tag of a dump

load common

# Overwrites one byte of the store "bank" at an offset: that of the magic number is 0, of its largest size 32.
damage()
{
    printf '\x99' | dd of="$SHOBJ_DIR/bank" bs=1 seek="$1" conv=notrunc status=none
}

make()
{
    exits 0 shobj create --max-size 64M bank
    exits 0 shobj load bank: - <<<'{"a": [1, 2, {"b": "a text of some length"}], "c": {"$ref": "/a"}, "d": {"$dict": [[1, 2]]}}'
    dump=$(shobj dump bank:)
}

# The place of the bytes in the file.
place_of()
{
    LC_ALL=C grep -obUaF "$1" "$SHOBJ_DIR/bank" | head -n 1 | cut -d: -f1
}

@test "a store whose head is damaged" {
    make
    for at in 0 34 130; do
        cp --sparse=always "$SHOBJ_DIR/bank" whole
        damage "$at"
        cp --sparse=always "$SHOBJ_DIR/bank" before
        code=5
        ((at > 0)) || code=3
        exits "$code" shobj check bank
        says "*bank*"
        cmp before "$SHOBJ_DIR/bank"
        exits 0 shobj check --repair bank
        [[ $output == *"bank: repaired, 0 losses" ]]
        prints "$dump" shobj dump bank:
        prints "$SHOBJ_DIR/bank: whole" shobj check bank
        cp --sparse=always whole "$SHOBJ_DIR/bank"
    done
}

@test "a value that can't be read any more" {
    make
    at=$(place_of "a text of some length")
    damage $((at - 8)) # the kind of its block
    exits 5 shobj check bank
    [[ $output == *"can't be read"* ]]
    says "shobj check: *bank: damaged,*--repair*"
    exits 5 shobj check --json bank
    jq -e '.whole == false and (.problems | length) > 0' <<<"$output"
    exits 5 shobj dump bank:
    before=$(stat -c %i "$SHOBJ_DIR/bank")
    exits 0 shobj check --repair --output ./new --json bank
    jq -e '.whole == false and .repaired and (.lost | length) == 1' <<<"$output"
    exits 5 shobj check bank
    prints "$SHOBJ_DIR/../new: whole" shobj check "$SHOBJ_DIR/../new"
    exits 0 shobj check --repair --backup "$SHOBJ_DIR/old" bank
    [[ $output == *"lost: an entry of a dict: the value of key b can't be read"*"bank: repaired, 1 loss" ]]
    [[ $(stat -c %i "$SHOBJ_DIR/old") == "$before" ]]
    exits 5 shobj check old
    prints '{"a": [1, 2, {}], "c": {"$ref": "/a"}, "d": {"$dict": [[1, 2]]}}' shobj dump bank:
    exits 0 shobj check bank
}

@test "a store that is whole is left alone" {
    make
    before=$(stat -c %i "$SHOBJ_DIR/bank")
    prints "$SHOBJ_DIR/bank: whole" shobj check --repair --backup ./old bank
    [[ ! -e old && $(stat -c %i "$SHOBJ_DIR/bank") == "$before" ]]
}

@test "no repair while somebody has it open" {
    make
    shobj stat -i 1 bank >shown 3>&- &
    holder=$!
    eventually test -s shown
    at=$(place_of "a text of some length")
    damage $((at - 8))
    exits 7 shobj check --repair bank
    says "*bank is in use*"
    kill "$holder"
    wait "$holder" || true
    exits 0 shobj check --repair bank
}

@test "what can't be repaired" {
    seq 1000 >plain
    cp plain copy
    exits 3 shobj check --repair ./plain
    says "*plain*not a shobj heap*"
    cmp plain copy
    exits 3 shobj check --repair ./nothing
    make
    exits 2 shobj check --backup old bank
    exits 2 shobj check --output ./new bank
    exits 2 shobj check --repair --output new bank
    exits 2 shobj check --repair --output ./new --backup old bank
    damage 34
    : >taken
    exits 7 shobj check --repair --backup ./taken bank
    exits 7 shobj check --repair --output ./taken bank
    [[ $(ls "$SHOBJ_DIR") == bank && ! -s taken ]]
    exits 0 shobj check --repair bank
}
