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
    exits 3 shobj umount nowhere
    exits 2 shobj umount
}
