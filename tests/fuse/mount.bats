#!/usr/bin/env bats
# Mounting, unmounting, refusing; changes, writers and their deaths.

# The variables are those of helpers.bash; ls is what is tested; JSON has its own $; a bare "! grep" would not fail a test.
# shellcheck disable=SC2154,SC2010,SC2012,SC2016,SC2143

load helpers

@test "help, version, wrong usage" {
    run shobjfs --help
    [[ $status == 0 && $output == usage:* ]]
    run shobjfs --version
    [[ $status == 0 && $output == shobjfs\ [0-9]* ]]
    expect_failure 2 '*a store and a folder are needed*usage:*' shobjfs
    expect_failure 2 '*a store and a folder are needed*' shobjfs t
    expect_failure 2 '*only a store and a folder*' shobjfs t "$mnt" more
    expect_failure 2 '*usage:*' shobjfs --nonsense t "$mnt"
    expect_failure 2 '*no option -o nonsense*' shobjfs -o ro,nonsense t "$mnt"
    expect_failure 2 '*-o timeout=soon*' shobjfs -o timeout=soon t "$mnt"
    expect_failure 7 '*-o rw is refused*reading only*' shobjfs -o rw t "$mnt"
    expect_failure 7 '*-o allow_other is refused*' shobjfs t "$mnt" -o ro,allow_other
    expect_failure 7 '*-o auto_unmount is refused*' shobjfs t "$mnt" -o auto_unmount
}

@test "a bad store or folder: a clear message, an exit code, no mount" {
    need_fuse
    make '{}'
    expect_failure 3 "*$mnt/none: No such file*" shobjfs t "$mnt/none"
    expect_failure 3 '*not a folder*' shobjfs t "$SHOBJ_DIR/t"
    expect_failure 3 '*missing*' shobjfs missing "$mnt"
    expect_failure 3 '*' shobjfs "$SHOBJ_DIR" "$mnt"
    head -c 100000 /dev/urandom >"$SHOBJ_DIR/noise"
    expect_failure 3 '*noise*' shobjfs noise "$mnt"
    : >"$SHOBJ_DIR/empty"
    expect_failure 3 '*empty*' shobjfs empty "$mnt"
    cp "$SHOBJ_DIR/t" "$SHOBJ_DIR/damaged"
    printf '\377\377\377\377\377\377\377\377' | dd of="$SHOBJ_DIR/damaged" bs=1 seek=48 conv=notrunc status=none
    run shobjfs damaged "$mnt"
    echo "$output"
    [[ $status == 5 || $status == 3 ]]
    [[ $output == *damaged* ]]
    run shobjfs -f missing "$mnt"
    [[ $status == 3 ]]
    not_mounted
}

@test "the mount works when shobjfs returns; fusermount3 -u ends it" {
    need_fuse
    make '{"x": 1}'
    cd "$BATS_TEST_TMPDIR"
    run shobjfs t mnt
    [[ $status == 0 && -z $output ]]
    expect_text mnt/root/x '1\n'
    [[ $(grep -F " $mnt " /proc/mounts) == "$SHOBJ_DIR/t $mnt fuse.shobjfs ro,nosuid,nodev,noexec,noatime,"* ]]
    # It has left folder and terminal.
    pid=$(sed -n 's/^pid //p' mnt/sessions/* | sort | uniq -c | sort -n | tail -n 1 | awk '{print $2}')
    [[ $(readlink "/proc/$pid/cwd") == / && $(readlink "/proc/$pid/fd/2") == /dev/null ]]
    fusermount3 -u mnt
    wait_until is_dead "$pid"
    [[ -z $(ls mnt) ]]
}

@test "shobj mount and umount" {
    need_fuse
    make '{"x": [1]}'
    shobj mount t "$mnt"
    expect_text "$mnt/root/x/0" '1\n'
    shobj umount "$mnt"
    not_mounted
}

@test "names with blanks and commas" {
    need_fuse
    shobj create 'a b,c\d'
    shobj set 'a b,c\d:/x' 5
    mkdir "$mnt/o p,q"
    shobjfs 'a b,c\d' "$mnt/o p,q"
    expect_text "$mnt/o p,q/root/x" '5\n'
    fusermount3 -u "$mnt/o p,q"
}

@test "SIGTERM, SIGINT and SIGHUP unmount, files open or not" {
    make '{"x": 1}'
    for signal in TERM INT HUP; do
        mount_here
        exec 4<"$mnt/root/x"
        kill -"$signal" "$fs"
        wait "$fs"
        not_mounted
        exec 4<&-
    done
    shobjfs t "$mnt"
    pid=$(sed -n 's/^pid //p' "$mnt"/sessions/* | sort | uniq -c | sort -n | tail -n 1 | awk '{print $2}')
    kill -TERM "$pid"
    wait_until is_dead "$pid"
    not_mounted
    # All its sessions are given back.
    [[ $(shobj ps --json t | jq '[.[] | select(.pid == '"$pid"')] | length') == 0 ]]
}

@test "a mount that was killed: the next one says what to do" {
    make '{"x": 1}'
    mount_here
    kill -KILL "$fs"
    wait_until is_dead "$fs"
    expect_failure 3 "*earlier mount*fusermount3 -u*" shobjfs t "$mnt"
    fusermount3 -u "$mnt"
    mount_here
    expect_text "$mnt/root/x" '1\n'
}

@test "nothing can be changed" {
    make '{"x": 1, "d": {}}'
    mount_here
    for command in "touch $mnt/root/new" "rm $mnt/root/x" "mkdir $mnt/root/d/e" "mv $mnt/root/x $mnt/root/y" "truncate -s 0 $mnt/root/x" \
        "chmod 777 $mnt/root/x" "ln -s x $mnt/root/z" "setfattr -n user.a -v b $mnt/root/d" "rmdir $mnt/root/d"; do
        # shellcheck disable=SC2086  # words
        run $command
        [[ $status != 0 && $output == *'Read-only file system'* ]] || { echo "$command: $output"; return 1; }
    done
    run bash -c "echo 2 >$mnt/root/x"
    [[ $output == *'Read-only file system'* ]]
    [[ $(shobj get t:) == "{'x': 1, 'd': {}}" ]]
}

@test "the owner and the mode of the heap file are those of the files" {
    shobj create --mode 640 t
    shobj set t:/x 1
    mount_here
    [[ $(stat -c %a:%u:%g "$mnt/root/x") == "440:$(stat -c %u:%g "$SHOBJ_DIR/t")" && $(stat -c %a "$mnt/root") == 550 ]]
}

@test "changes are seen at once, what is open stays as it was" {
    make '{"x": "short", "l": [1]}'
    mount_here
    for text in a abc '' "$(printf 'long%.0s' {1..1000})" b; do
        shobj set t:/x "'$text'"
        expect_text "$mnt/root/x" "$text\\n"
    done
    exec 4<"$mnt/root/x"
    shobj set t:/x '[1, 2]'
    [[ -d $mnt/root/x && $(cat "$mnt/root/x/1") == 2 ]]
    [[ $(stat -c %s - <&4) == 2 && $(tail -c 2 <&4) == b ]]
    exec 4<&-
    shobj set t:/x '(1, 2, 3)'
    [[ $(cat "$mnt/root/x/2") == 3 ]]
    shobj set t:/x 5
    expect_text "$mnt/root/x" '5\n'
    shobj del t:/x
    [[ ! -e $mnt/root/x ]]
    shobj del t:/l
    expect_failure 2 '*' ls "$mnt/root/l"
}

@test "-o timeout lets the kernel keep names" {
    make '{"x": 1}'
    mount_here -o timeout=60,ro
    [[ -e $mnt/root/x ]]
    shobj del t:/x
    [[ -e $mnt/root/x ]]
}

@test "a large dict and a large list are listed completely" {
    shobj create t
    seq 1 50000 | jq -cn '[inputs] | {list: ., dict: (map({key: "key\(.)", value: .}) | from_entries)}' | shobj load t: -
    mount_here
    [[ $(ls -U "$mnt/root/dict" | tee "$BATS_TEST_TMPDIR/names" | wc -l) == 50000 ]]
    [[ $(sort -u "$BATS_TEST_TMPDIR/names" | wc -l) == 50000 ]]
    [[ $(head -n 1 "$BATS_TEST_TMPDIR/names") == key1 && $(tail -n 1 "$BATS_TEST_TMPDIR/names") == key50000 ]]
    [[ $(find "$mnt/root/list" -type f | wc -l) == 50000 ]]
    expect_text "$mnt/root/dict/key49999" '49999\n'
    expect_text "$mnt/root/list/49999" '50000\n'
    # A small buffer makes the kernel go back to what did not fit.
    cat >"$BATS_TEST_TMPDIR/walk.py" <<'TEXT'
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61
fd, names, buf = os.open(sys.argv[1], os.O_RDONLY), [], ctypes.create_string_buffer(200)
def read():
    n = libc.syscall(GETDENTS64, fd, buf, len(buf))
    assert n >= 0, ctypes.get_errno()
    found, at = [], 0
    while at < n:
        _, off, size = struct.unpack_from("QqH", buf, at)
        found.append((buf.raw[at + 19 : at + size].split(b"\0")[0].decode(), off))
        at += size
    return found
while batch := read():
    names += batch
assert len(names) == len(set(names)) == 50002, len(names)
for place in (40000, 7, 25000, 0, 49998):  # go back and on
    os.lseek(fd, names[place][1], os.SEEK_SET)
    assert read()[0] == names[place + 1], place
os.lseek(fd, 0, os.SEEK_SET)
assert read()[0] == names[0]
TEXT
    python3 "$BATS_TEST_TMPDIR/walk.py" "$mnt/root/dict"
    python3 "$BATS_TEST_TMPDIR/walk.py" "$mnt/root/list"
}

@test "a listing beside writers has each lasting entry exactly once" {
    shobj create t
    start_churn
    mount_here
    for _ in {1..30}; do
        [[ $(ls "$mnt/root/churn/fixed" | sort -u | wc -l) == 200 && $(ls "$mnt/root/churn/fixed" | wc -l) == 200 ]]
        ls -U "$mnt/root/churn/moving" >"$BATS_TEST_TMPDIR/names"
        [[ -z $(sort "$BATS_TEST_TMPDIR/names" | uniq -d) ]]
        ls -lR "$mnt/root/churn" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || true
        # Only what has gone meanwhile is missing.
        [[ -z $(grep -v 'No such file' "$BATS_TEST_TMPDIR/err") ]]
    done
    kill -0 "$writer"
}

@test ".json beside writers shows one instant" {
    shobj create t
    start_churn
    mount_here
    for _ in {1..30}; do
        [[ $(jq '[.fixed[]] | add' "$mnt/root/churn/.json") == 0 ]]
        [[ $(jq '(.moving | has("here")) != (.moving | has("there"))' "$mnt/root/churn/.json") == true ]]
    done
    kill -0 "$writer"
}

@test "several readers at once beside writers" {
    shobj create t
    start_churn
    mount_here
    readers=()
    for reader in 1 2 3 4; do
        (
            for _ in {1..10}; do
                find "$mnt/root" -type f -exec cat {} + >/dev/null 2>"$BATS_TEST_TMPDIR/err$reader" || true
                [[ -z $(grep -v -e 'No such file' -e 'Stale file' "$BATS_TEST_TMPDIR/err$reader") ]] || exit 1
                [[ $(cat "$mnt"/root/churn/fixed/* | wc -l) == 200 ]] || exit 1
            done
        ) 3>&- &
        readers+=($!)
    done
    for reader in "${readers[@]}"; do
        wait "$reader"
    done
    kill -0 "$writer"
}

@test "the mount goes on when writers are killed" {
    shobj create t
    mount_here
    for _ in {1..20}; do
        start_churn
        cat "$mnt"/root/churn/fixed/k1?? >/dev/null
        kill -KILL "$writer"
        [[ $(jq '[.fixed[]] | add' "$mnt/root/churn/.json") == 0 ]]
        [[ $(ls "$mnt/root/churn/fixed" | wc -l) == 200 ]]
        wait "$writer" || true
    done
    shobj check t
}

@test "the mount goes on when the store's file is removed" {
    make '{"x": {"y": 1}}'
    mount_here
    shobj rm --force t
    expect_text "$mnt/root/x/y" '1\n'
    df "$mnt"
    ls -lR "$mnt" >/dev/null
}

@test "a damaged heap gives errors, and the mount lives" {
    make '{"d": {"a": [1, 2, {"$tuple": [3, "text"]}], "b": "some longer text in a block"}, "l": [[1], [2], {"k": {}}]}'
    shobj load t:/more - < <(seq 1 500 | jq -cn '[inputs] | map({key: "key\(.)", value: [., "text"]}) | from_entries')
    cat >"$BATS_TEST_TMPDIR/damage.py" <<'TEXT'
"""Overwrites words in use, near and behind the block with the text: damage.py FILE ROUND"""
import mmap, random, struct, sys
random.seed(int(sys.argv[2]))  # the same damage each time
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as heap:
    begin = max(0, heap.find(b"some longer text in a block") - (256 << 10)) & ~7
    used = [at for at in range(begin, min(len(heap), begin + (1 << 20)), 8) if heap[at : at + 8] != bytes(8)]
    for at in random.sample(used, 10):
        word = struct.unpack_from("Q", heap, at)[0]
        flipped = word ^ 1 << random.randrange(64)
        struct.pack_into("Q", heap, at, random.choice([flipped, random.getrandbits(64), 0]))
TEXT
    mount_here
    : >"$BATS_TEST_TMPDIR/errors"
    for round in {1..40}; do
        python3 "$BATS_TEST_TMPDIR/damage.py" "$SHOBJ_DIR/t" "$round"
        for command in "ls -lR $mnt" "cat $mnt/root/.json" "grep -r text $mnt/root" "cat $mnt/stat"; do
            code=0
            # shellcheck disable=SC2086  # words
            timeout 20 $command >/dev/null 2>>"$BATS_TEST_TMPDIR/errors" || code=$?
            ((code != 124)) || { echo "after damage $round: $command hangs"; return 1; }
        done
        kill -0 "$fs"
    done
    grep -q 'Input/output error' "$BATS_TEST_TMPDIR/errors"
}
