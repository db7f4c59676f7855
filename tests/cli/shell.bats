#!/usr/bin/env bats
# Around the commands: help, version, completion, the prompt, terminals, man pages.

load common

@test "--version and help" {
    exits 0 shobj --version
    [[ $output =~ ^shobj\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
    exits 0 shobj help
    [[ $output == *"create an empty store"* && $output == *"Exit codes"* ]]
    exits 0 shobj help --json
    commands=$(jq -r '.[].name' <<<"$output")
    for command in $commands; do
        exits 0 shobj help "$command"
        [[ $output == "usage: shobj $command "* ]]
        exits 0 shobj "$command" --help
        [[ $output == "usage: shobj $command "* ]]
    done
    exits 0 shobj --help
}

@test "every command and option stands in the man page" {
    page=$BATS_TEST_DIRNAME/../../man/shobj.1
    exits 0 shobj help --json
    for command in $(jq -r '.[].name' <<<"$output"); do
        grep -q "^.It Cm $command\b" "$page" || {
            echo "no $command in shobj(1)"
            false
        }
    done
}

@test "man pages are clean" {
    command -v mandoc >/dev/null || skip "no mandoc"
    mandoc -T lint -W warning "$BATS_TEST_DIRNAME"/../../man/shobj*.[1-9]
}

@test "completion scripts parse" {
    for shell in bash zsh fish; do
        exits 0 shobj completion "$shell"
        [[ $output == *shobj* ]]
        echo "$output" >script
        if command -v "$shell" >/dev/null; then
            "$shell" -n script
        fi
    done
}

@test "bash completes commands, options, stores and paths" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/accounts "{'alice': [1], 'al b': 2}"
    cat >complete.bash <<'BASH'
eval "$(shobj completion bash)"
complete_line()
{
    COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
    compopt() { :; }
    _shobj
    printf '%s\n' "${COMPREPLY[@]}"
}
complete_line "$1"
BASH
    prints "create" bash complete.bash "shobj cre"
    prints "--if-value" bash complete.bash "shobj set --if"
    prints "bank" bash complete.bash "shobj stat b"
    prints "bank:/" bash complete.bash "shobj get b"
    prints "/accounts/" bash complete.bash "shobj get bank:/a"
    prints "/accounts/alice/
/accounts/al\\ b" bash complete.bash "shobj get --indent 2 bank:/accounts/al"
    prints "zsh" bash complete.bash "shobj completion z"
}

@test "completion --addresses" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "{'x/y': [[], 5], 'x~z': 1, 7: {}}"
    prints "bank:/" shobj completion --addresses ba
    prints "bank:/a/" shobj completion --addresses bank:/
    prints "bank:/a/x~1y/
bank:/a/x~0z
bank:/a/~=7/" shobj completion --addresses bank:/a/
    prints "bank:/a/x~1y/0/
bank:/a/x~1y/1" shobj completion --addresses bank:/a/x~1y/
    prints "" shobj completion --addresses bank:/nothing/
    prints "" shobj completion --addresses nothing:/
}

@test "the prompt runs commands on its store" {
    exits 0 shobj create bank
    export XDG_STATE_HOME=$PWD/state
    on_terminal "set /name 'a  b'
get /name
set --json /j {\"x\": [1, 2]}
set --if-value 'a  b' /name -5
ls
get bank:/j
dump
get /nothing
get '/name
check
frobnicate
exit
" shobj open bank
    [[ $output == *"'a  b'"* ]]
    [[ $output == *"{'x': [1, 2]}"* ]]
    [[ $output == *'{"name": -5, "j": {"x": [1, 2]}}'* ]]
    [[ $output == *"shobj get: path '/nothing': the dict has no such key"* ]]
    [[ $output == *"a quote is not closed"* ]]
    [[ $output == *"bank: whole"* ]]
    [[ $output == *"there is no command 'frobnicate'"* ]]
    prints "{'name': -5, 'j': {'x': [1, 2]}}" shobj get bank:
    grep -q 'get.*/name' state/shobj/history
}

@test "the prompt completes paths" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/accounts "{'alice': 41, 'bob': 42}"
    on_terminal $'get /acc\tb\t\nexit\n' shobj open bank
    [[ $output == *$'\n42\n'* ]]
    on_terminal $'ge\t/accounts/al\t\nexit\n' shobj open bank
    [[ $output == *$'\n41\n'* ]]
}

@test "a store that can only be read" {
    # Below the folders of the tests nobody else may look.
    SHOBJ_DIR=$(mktemp -d /dev/shm/shobj-test.XXXXXX)
    chmod 755 "$SHOBJ_DIR"
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "[1]"
    chmod 444 "$SHOBJ_DIR/bank"
    other=()
    if ((EUID == 0)); then
        other=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    fi
    prints "{'a': [1]}" "${other[@]}" shobj get bank:
    prints '{"a": [1]}' "${other[@]}" shobj dump bank:
    exits 0 "${other[@]}" shobj tree bank
    exits 0 "${other[@]}" shobj check bank
    exits 0 "${other[@]}" shobj open bank
    exits 3 "${other[@]}" shobj set bank:/b 1
    says "*ermission*"
    exits 3 "${other[@]}" shobj load bank:/b - <<<1
    prints "{'a': [1]}" shobj get bank:
    rm -r "$SHOBJ_DIR"
}

@test "on a terminal columns are aligned and long values broken" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/v "{'a': [1], 'b': '$(printf 'x%.0s' {1..120})'}"
    on_terminal "" shobj ls -l bank:/v
    [[ $output == *"list                1  "* && $output != *$'\t'* ]]
    on_terminal "" shobj get bank:/v
    [[ $output == *"{"$'\n'"  'a': ["* ]]
    on_terminal "" shobj stat bank
    [[ $output == *"max                  16G"* ]]
}

@test "a load on a terminal clears its bar" {
    exits 0 shobj create bank
    seq 200000 >numbers
    on_terminal "" shobj load bank:/v numbers
    exits 0 shobj get bank:/v/-1
    is 200000
}

@test "every error of the library has an exit code" {
    main=$BATS_TEST_DIRNAME/../../cli/main.c
    names=$(sed -n 's/^ *X(\(E[A-Z]*\), [0-9]*,.*/SHOBJ_\1/p' "$BATS_TEST_DIRNAME/../../store/include/shobj.h")
    (($(wc -w <<<"$names") >= 20))
    for name in $names; do
        (($(grep -c "{$name, EXIT_[A-Z]*}" "$main") == 1)) || {
            echo "$name does not stand once in the table of exit codes"
            false
        }
    done
}
