#!/usr/bin/env bats
# Commands beside a process that stands still in the middle of a commit.

load common

stopped=

setup_file()
{
    export SHOBJ_TIMEOUT=1
}

teardown()
{
    [[ -z $stopped ]] || kill -KILL "$stopped" 2>/dev/null || true
}

has_stopped()
{
    local state
    state=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) || return 0
    [[ $state == [TZ] ]]
}

# stop_at POINT COMMAND...: starts it; it stops at a fault point of the library, which only builds for tests have.
stop_at()
{
    local point=$1
    shift
    SHOBJ_FAULT=stop:1@$point "$@" 3>&- &
    stopped=$!
    eventually has_stopped "$stopped"
    [[ $(sed 's/.*) //; s/ .*//' "/proc/$stopped/stat" 2>/dev/null) == T ]] || skip "no fault points in this build"
}

@test "a writer stopped after its commit was decided: readers go on, writers give up and say whom they waited for" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "{'b': 1}"
    exits 0 shobj set bank:/other "[1]"
    stop_at commit.decided shobj set bank:/a/b 2
    prints 2 shobj get bank:/a/b
    exits 0 shobj ls bank:/a
    exits 0 shobj dump bank
    exits 0 shobj ps bank
    exits 0 shobj stat bank
    exits 0 shobj check bank
    exits 0 shobj set bank:/other/- 2
    exits 4 shobj set bank:/a/b 3
    says "*session*process $stopped*"
    exits 4 shobj del bank:/a/b
    says "*session*process $stopped*"
    exits 4 shobj load --plain bank:/a/b <<<3
    says "*session*process $stopped*"
    kill -CONT "$stopped"
    wait "$stopped"
    prints 2 shobj get bank:/a/b
    exits 0 shobj set bank:/a/b 3
}

@test "a writer stopped before its commit was decided is in nobody's way" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a 1
    stop_at commit.before_decide shobj set bank:/a 2
    prints 1 shobj get bank:/a
    exits 0 shobj set bank:/a 3
    prints 3 shobj get bank:/a
    exits 0 shobj check bank
}

@test "SHOBJ_TIMEOUT is a number of seconds" {
    exits 0 shobj create bank
    for text in 0 -1 x "" 1x 86401 99999999999999999999; do
        SHOBJ_TIMEOUT=$text exits 2 shobj ls bank
        says "*SHOBJ_TIMEOUT=$text*1 to 86400*"
    done
    SHOBJ_TIMEOUT=86400 exits 0 shobj ls bank
}
