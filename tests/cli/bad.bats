#!/usr/bin/env bats
# Bad input: a clear message, the documented exit code, nothing changed.

load common

# The commands that only need a store.
readers=(get ls tree cat dump stat ps check open)

each_reader()
{
    local code=$1 address=$2 pattern=$3 command
    for command in "${readers[@]}"; do
        exits "$code" shobj "$command" "$address"
        is ""
        says "shobj $command:$pattern"
    done
    exits "$code" shobj set "$address:/a" 1
    says "shobj set:$pattern"
    exits "$code" shobj load "$address:/a" - <<<"1"
    says "shobj load:$pattern"
}

@test "a missing store" {
    each_reader 3 nothing "*nothing*"
    exits 3 shobj rm nothing
    says "*nothing*"
    [[ ! -e $SHOBJ_DIR/nothing ]]
}

@test "a file that is no heap" {
    seq 100000 >plain
    cp plain copy
    each_reader 3 ./plain "*plain*"
    : >empty
    each_reader 3 ./empty "*empty*"
    cmp plain copy
    [[ ! -s empty ]]
}

@test "a directory" {
    mkdir folder
    each_reader 3 ./folder "*folder*"
}

@test "a heap file of a newer layout version" {
    exits 0 shobj create bank
    # The version is the first word after the magic number.
    printf '\x63' | dd of="$SHOBJ_DIR/bank" bs=1 seek=8 conv=notrunc status=none
    cp "$SHOBJ_DIR/bank" copy
    each_reader 3 bank "*version*"
    cmp copy "$SHOBJ_DIR/bank"
}

@test "a truncated heap file" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "[1, 2]"
    for bytes in 100 5000 70000; do
        cp "$SHOBJ_DIR/bank" "$SHOBJ_DIR/cut"
        truncate -s "$bytes" "$SHOBJ_DIR/cut"
        for command in "${readers[@]}"; do
            code=0
            shobj "$command" cut >out 2>err || code=$?
            ((code == 5 || code == 3)) || {
                echo "$command of $bytes bytes: exit code $code"
                cat out err
                false
            }
            grep -q '^shobj.*cut' err
        done
    done
}

@test "a folder that can't be written" {
    exits 3 shobj create /proc/nothing/bank
    says "*/proc/nothing/bank*"
    : >file
    exits 3 shobj create ./file/bank
    says "*file/bank*"
    exits 3 shobj open --create /proc/bank
    says "*/proc/bank*"
}

@test "bad addresses" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "[1, (2, [3]), 'x']"
    before=$(shobj dump bank:)
    for address in :/a bank:a bank:/a//0 bank:/~2 bank:/~ 'bank:/~=x' 'bank:/~=[1]' 'bank:/~=(1' bank:@ bank:@xyz bank:@0 \
        bank:@12345678901234567 $'bank:/\xff'; do
        exits 2 shobj get "$address"
        says "shobj get:*"
        exits 2 shobj set "$address" 1
        exits 2 shobj del "$address"
    done
    for address in bank:/b bank:/a/3 bank:/a/-4 bank:/a/- bank:/a/x bank:/a/00 bank:/a/99999999999999999999 bank:/a/0/0 \
        bank:/a/1/2 bank:/a/2/0 bank:@00000f0000000000 'bank:/~=1'; do
        exits 1 shobj get "$address"
        says "shobj get:*"
    done
    exits 2 shobj set bank: 1
    exits 1 shobj set bank:/b/c 1
    exits 1 shobj set bank:/a/3 1
    exits 1 shobj set bank:/a/1/0 1
    exits 1 shobj del bank:/b
    exits 1 shobj del bank:/a/-
    [[ $(shobj dump bank:) == "$before" ]]
}

@test "bad values" {
    exits 0 shobj create bank
    for value in '' hello "'open" '[1, 2' '[1 2]' '{1: 2' '{1}' '{[1]: 2}' '(1,,)' 1_ 007 '1 2' "b'é'" '{1: 2}}' '--' 1.5.5 \
        "'''a'''" 'frozenset({[1]})'; do
        exits 2 shobj set bank:/a "$value"
        says "shobj set:*"
    done
    exits 2 shobj set bank:/a - < <(printf '1\0')
    says "*NUL*"
    prints "{}" shobj get bank:
    exits 2 shobj set bank:/a "[1, 'é', nope]"
    says "*column 10:*"
}

@test "bad commands, options and operands" {
    exits 0 shobj create bank
    exits 2 shobj
    exits 2 shobj frobnicate
    says "*frobnicate*"
    exits 2 shobj get
    says "*"$'\n'"usage: shobj get*"
    exits 2 shobj get bank: bank:
    exits 2 shobj get --frob bank:
    says "*--frob*"
    exits 2 shobj get -q bank:
    exits 2 shobj get --indent bank: --json=1
    exits 2 shobj get --indent
    exits 2 shobj get --indent x bank:
    exits 2 shobj get --indent 17 bank:
    exits 2 shobj tree -L 0 bank:
    exits 2 shobj completion tcsh
    exits 2 shobj completion
    exits 2 shobj help frobnicate
}

@test "an output that takes no more" {
    [[ -w /dev/full ]] || skip "no /dev/full"
    exits 0 shobj create bank
    exits 3 bash -c 'shobj get bank: >/dev/full'
    says "*standard output*"
}

@test "a full store" {
    exits 0 shobj create --max-size 16M bank
    exits 0 shobj set bank:/a 1
    seq 3000000 >numbers.jsonl
    exits 6 shobj load bank:/b numbers.jsonl
    says "*full*"
    prints "{'a': 1}" shobj get bank:
    exits 0 shobj set bank:/c "[2]"
    exits 0 shobj check bank
}
