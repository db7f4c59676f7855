# What the tests of the command share. The programs are those in $SHOBJ_BIN, else those in PATH.

setup()
{
    PATH=${SHOBJ_BIN:+$SHOBJ_BIN:}$PATH
    export SHOBJ_DIR=$BATS_TEST_TMPDIR/stores LC_ALL=C.UTF-8
    mkdir "$SHOBJ_DIR"
    cd "$BATS_TEST_TMPDIR" || return
}

# exits CODE COMMAND...: runs it, keeps standard output in $output and standard error in $stderr.
exits()
{
    local expected=$1 code=0
    shift
    output=$("$@" 2>stderr) || code=$?
    stderr=$(<stderr)
    ((code == expected)) || {
        echo "exit code $code instead of $expected: $*"
        echo "stdout: $output"
        echo "stderr: $stderr"
        return 1
    }
}

# is EXPECTED: what the last command wrote.
is()
{
    [[ $output == "$1" ]] || {
        diff <(echo "$1") <(echo "$output")
        return 1
    }
}

# prints EXPECTED COMMAND...: it succeeds and writes exactly this.
prints()
{
    local expected=$1
    shift
    exits 0 "$@"
    is "$expected"
}

# says PATTERN: the last message, one line that begins with the program's name, matches.
says()
{
    # shellcheck disable=SC2053 # a pattern is meant
    [[ $stderr == shobj* && $stderr == $1 ]] || {
        echo "message: $stderr"
        echo "instead of: $1"
        return 1
    }
}

# Waits until a command succeeds; a minute is for machines that are busy.
eventually()
{
    local end=$((SECONDS + 60))
    until "$@"; do
        ((SECONDS < end)) || {
            echo "never became true: $*"
            return 1
        }
    done
}

# on_terminal INPUT COMMAND...: runs it on a terminal of its own; what it shows, without carriage returns, goes to $output.
on_terminal()
{
    local input=$1 code=0
    shift
    output=$(printf '%s' "$input" | script -qefc "$(printf '%q ' "$@")" /dev/null | tr -d '\r') || code=$?
    return "$code"
}
