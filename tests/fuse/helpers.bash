# What the tests of the mount share. Each test has its own folder of stores ($SHOBJ_DIR) and its own folder to mount on ($mnt).
# The programs are in $SHOBJ_BIN; else in $SHOBJ_BUILD/bin; else where shobjfs is found.

bats_require_minimum_version 1.5.0

: "${SHOBJ_BIN:=${SHOBJ_BUILD:+$SHOBJ_BUILD/bin}}"
: "${SHOBJ_BIN:=$(dirname "$(command -v shobjfs || echo ./shobjfs)")}"
PATH=$SHOBJ_BIN:$PATH
churn=$SHOBJ_BIN/../tests/churn
status=0 output= # what bats' run sets

need_fuse()
{
    [[ -c /dev/fuse ]] || skip "there is no /dev/fuse"
}

setup()
{
    export SHOBJ_DIR=$BATS_TEST_TMPDIR/stores
    mnt=$BATS_TEST_TMPDIR/mnt
    mkdir "$SHOBJ_DIR" "$mnt"
    started=()
    fs=
}

# A mount that is still there has to end well, too.
teardown()
{
    local pid code=0
    if [[ -n $fs ]] && ! is_dead "$fs"; then
        kill -TERM "$fs"
        wait "$fs" || code=$?
    fi
    for pid in "${started[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    while is_mounted "$mnt"; do
        fusermount3 -u -z "$mnt"
    done
    ((code == 0)) || {
        echo "shobjfs ended with exit code $code"
        return 1
    }
}

is_mounted()
{
    grep -qF " $1 fuse.shobjfs " /proc/mounts
}

# (A bare "! is_mounted" would never fail a test.)
not_mounted()
{
    if is_mounted "$mnt"; then
        echo "$mnt is still mounted"
        return 1
    fi
}

# wait_until COMMAND...  until it succeeds; fails after 20 s.
wait_until()
{
    local end=$((SECONDS + 20))
    until "$@"; do
        if ((SECONDS >= end)); then
            echo "not within 20 s: $*"
            return 1
        fi
        sleep 0.02
    done
}

is_dead()
{
    ! kill -0 "$1" 2>/dev/null
}

# make JSON  creates the store "t" with this dump as its root.
make()
{
    shobj create t
    shobj load t: - <<<"$1"
}

# Mounts the store "t" in the background of the test; $fs is the process.
mount_here()
{
    need_fuse
    shobjfs -f "$@" t "$mnt" 3>&- &
    fs=$!
    started+=("$fs")
    wait_until is_mounted "$mnt"
}

start_churn()
{
    "$churn" t >"$BATS_TEST_TMPDIR/churn.out" 3>&- &
    writer=$!
    started+=("$writer")
    wait_until grep -q ready "$BATS_TEST_TMPDIR/churn.out"
}

# expect_text FILE TEXT  the file has this text and its size.
expect_text()
{
    local size
    printf '%b' "$2" >"$BATS_TEST_TMPDIR/expected"
    cmp "$1" "$BATS_TEST_TMPDIR/expected"
    size=$(stat -c %s "$BATS_TEST_TMPDIR/expected")
    [[ $(stat -c %s "$1") == "$size" ]] || { echo "$1: size $(stat -c %s "$1"), not $size"; return 1; }
}

# expect_names FOLDER NAME...  in this order, as the folder lists them.
expect_names()
{
    local folder=$1
    shift
    diff <(ls -Uw0 -- "$folder") <(printf '%s\n' "$@")
}

# expect_failure CODE PATTERN COMMAND...
expect_failure()
{
    local code=$1 pattern=$2
    shift 2
    run "$@"
    echo "$output"
    [[ $status == "$code" ]] || { echo "exit code $status, not $code"; return 1; }
    # shellcheck disable=SC2053  # a pattern
    [[ $output == $pattern ]] || { echo "the message is not like: $pattern"; return 1; }
}

oid_of()
{
    getfattr --absolute-names --only-values -n user.shobj.oid "$1"
}
