#!/usr/bin/env bats
# mount and umount.

load common

teardown()
{
    fusermount3 -u "$BATS_TEST_TMPDIR/mnt" 2>/dev/null || true
}

@test "mount returns when the files are there, umount ends it" {
    [[ -e /dev/fuse ]] || skip "no /dev/fuse"
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "{'b': 'text'}"
    mkdir mnt
    exits 0 shobj mount bank mnt
    [[ $(cat mnt/root/a/b) == text ]]
    exits 7 shobj mount bank mnt
    says "*already*"
    exits 0 shobj umount mnt
    [[ ! -e mnt/root ]]
    exits 3 shobj umount mnt
    says "*no store is mounted*"
    mkdir "with blank"
    exits 0 shobj mount --json bank "with blank"
    jq -e '.mounted | endswith("/with blank")' <<<"$output"
    exits 0 shobj umount "with blank/"
}

@test "umount of a mount in use" {
    [[ -e /dev/fuse ]] || skip "no /dev/fuse"
    exits 0 shobj create bank
    mkdir mnt
    exits 0 shobj mount bank mnt
    exec 4<mnt/root
    exits 7 shobj umount mnt
    says "*busy*in use*"
    exec 4<&-
    exits 0 shobj umount mnt
}

# A shobjfs that does what its one argument here says, beside a copy of shobj.
fake_fs()
{
    mkdir -p "fake-$1"
    cp "$(command -v shobj)" "fake-$1/"
    printf '#!/bin/sh\n%s\n' "$2" >"fake-$1/shobjfs"
    chmod +x "fake-$1/shobjfs"
}

@test "the exit codes of shobjfs are those of mount" {
    exits 0 shobj create bank
    mkdir mnt
    for code in 1 2 3 4 5 6 7; do
        fake_fs "$code" "echo shobjfs: reason $code >&2; exit $code"
        exits "$code" "fake-$code/shobj" mount bank mnt
        is ""
        says "shobjfs: reason $code"
    done
    fake_fs odd "exit 99"
    exits 3 fake-odd/shobj mount bank mnt
    says "*exit code 99*"
    fake_fs killed "kill -KILL \$\$"
    exits 3 fake-killed/shobj mount bank mnt
    says "*killed*"
    fake_fs idle "exit 0"
    exits 3 fake-idle/shobj mount bank mnt
    says "*without mounting*"
}

@test "bad mounts" {
    exits 0 shobj create bank
    : >file
    mkdir mnt
    exits 3 shobj mount nothing mnt
    says "*nothing*"
    exits 3 shobj mount bank nowhere
    says "*nowhere*"
    exits 3 shobj mount bank file
    says "*file*"
    exits 2 shobj mount bank:/a mnt
    # What shobjfs refuses, with its message and its exit code.
    exits 2 shobj mount -o nothing bank mnt
    says "shobjfs: *no option -o nothing*"
    exits 2 shobj mount -o timeout=x bank mnt
    says "shobjfs: *timeout=x*"
    exits 7 shobj mount -o rw bank mnt
    says "shobjfs: *rw is refused*"
    exits 3 shobj umount nowhere
    exits 2 shobj umount
}
