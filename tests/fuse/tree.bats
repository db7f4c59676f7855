#!/usr/bin/env bats
# What stands in the tree: names, contents, sizes, links, attributes.

# The variables are those of helpers.bash; ls is what is tested; JSON has its own $; a bare "! grep" would not fail a test.
# shellcheck disable=SC2154,SC2010,SC2012,SC2016,SC2143

load helpers

@test "scalars are files with exact sizes" {
    make '{"i": 42, "neg": -7, "big": 1267650600228229401496703205376, "f": 1.5, "nan": {"$float": "nan"},
           "inf": {"$float": "-inf"}, "c": {"$complex": [1, 2]}, "t": true, "no": false, "none": null,
           "s": "grün\nzwei", "empty": "", "b": {"$bytes": "AAFmZmYK"}, "nob": {"$bytes": ""}}'
    mount_here
    cd "$mnt/root"
    expect_text i '42\n'
    expect_text neg '-7\n'
    expect_text big '1267650600228229401496703205376\n'
    expect_text f '1.5\n'
    expect_text nan 'nan\n'
    expect_text inf '-inf\n'
    expect_text c '(1+2j)\n'
    expect_text t 'true\n'
    expect_text no 'false\n'
    expect_text none 'null\n'
    expect_text s 'grün\nzwei\n'
    expect_text empty '\n'
    expect_text b '\0000\0001fff\n'
    expect_text nob ''
    cd /
}

@test "dict, list, tuple and frozenset are folders, in their order" {
    make '{"d": {"z": 1, "a": 2}, "l": [7, [8], {}], "t": {"$tuple": [1, {"$tuple": [2, "x"]}]},
           "fs": {"$set": ["only", {"$tuple": [3, 4]}]}, "e": []}'
    mount_here
    expect_names "$mnt" root by-id sessions stat
    expect_names "$mnt/root" d l t fs e
    expect_names "$mnt/root/d" z a
    expect_names "$mnt/root/l" 0 1 2
    expect_names "$mnt/root/t" 0 1
    [[ -z $(ls "$mnt/root/e") && -z $(ls "$mnt/root/l/2") && -z $(ls "$mnt/by-id") ]]
    expect_text "$mnt/root/l/1/0" '8\n'
    expect_text "$mnt/root/t/1/1" 'x\n'
    expect_text "$mnt/root/fs/only" 'only\n'
    expect_text "$mnt/root/fs/~=(3, 4)/1" '4\n'
    run cat "$mnt/root/d/nokey" "$mnt/root/l/3" "$mnt/root/t/2" "$mnt/root/fs/1" "$mnt/nothing"
    [[ $status == 1 && $(grep -c 'No such file' <<<"$output") == 5 ]]
    run ls "$mnt/root/l/-1" "$mnt/root/l/00" "$mnt/root/l/~=0" "$mnt/root/t/01"
    [[ $(grep -c 'No such file' <<<"$output") == 4 ]]
}

@test "odd keys have names that are found again, and are the steps of addresses" {
    long=$(printf 'long%.0s' {1..100})
    make '{"$dict": [["a/b", 1], ["", 2], [".", 3], ["..", 4], ["new\nline", 5], [7, 6], [{"$tuple": [1, "x"]}, 7], [null, 8],
        [{"$bytes": "a2s="}, 9], ["~tilde", 10], ["grün", 11], [".json", 12], [".repr", 13], [1.5, 14], [true, 15],
        ["back\\slash", 16], ["'"$long"'", 17], ["'"$long"'/", {"in": 18}], ["tab\tand \"quotes\"", 19], ["~=5", 20], ["~#5", 21]]}'
    mount_here
    expect_names "$mnt/root" 'a~1b' "~=''" "~='.'" "~='..'" "~='new\\nline'" '~=7' "~=(1, 'x')" '~=None' "~=b'kk'" '~0tilde' \
        'grün' "~='.json'" "~='.repr'" '~=1.5' '~=True' 'back\slash' "$(ls -U "$mnt/root" | sed -n 17p)" \
        "$(ls -U "$mnt/root" | sed -n 18p)" "~='tab\\tand \"quotes\"'" '~0=5' '~0#5'
    number=0
    while IFS= read -r name; do
        ((++number))
        if [[ -d $mnt/root/$name ]]; then
            expect_text "$mnt/root/$name/in" "$number\\n"
        else
            expect_text "$mnt/root/$name" "$number\\n"
            [[ $name == '~#'* || $(shobj get "t:/$name") == "$number" ]]
        fi
    done < <(ls -U "$mnt/root")
    [[ $number == 21 ]]
    [[ $(ls "$mnt/root" | grep -cE '^~#[0-9a-f]{16}$') == 2 ]]
    # Another spelling of a key is no name.
    run ls "$mnt/root/~=0x7" "$mnt/root/~='a/b'" "$mnt/root/~='grün'" "$mnt/root/a~2b" "$mnt/root/~#0000000000000000" \
        "$mnt/root/"$'new\nline' "$mnt/root/~=[" "$mnt/root/"$'\xff'
    [[ $(grep -c 'No such file' <<<"$output") == 8 ]]
}

@test "a name that is too long is found in a mount that has not listed it" {
    long=$(printf 'x%.0s' {1..300})
    make "{\"a\": 1, \"$long\": \"here\", \"z\": {\"$long\": [\"deep\"]}}"
    mount_here
    name=$(ls "$mnt/root" | grep '~#')
    kill -TERM "$fs"
    wait "$fs"
    mount_here
    expect_text "$mnt/root/z/$name/0" 'deep\n'
    expect_text "$mnt/root/$name" 'here\n'
    shobj del "t:/$long"
    run cat "$mnt/root/$name"
    [[ $output == *'No such file'* ]]
}

@test "a container that is its own ancestor, or was met elsewhere, is a link to its id" {
    make '{"a": {"self": {"$ref": "/a"}, "top": {"$ref": ""}, "in": {"x": 1}}, "b": {"$ref": "/a"},
           "l": [{"$ref": "/a/in"}, {"$tuple": [{"$ref": "/a/in"}]}]}'
    mount_here
    [[ $(find "$mnt/root" | wc -l) == 11 ]]
    id=$(oid_of "$mnt/root/a")
    [[ $(readlink "$mnt/root/b") == "../by-id/$id" ]]
    [[ $(readlink "$mnt/root/a/self") == "../../by-id/$id" ]]
    [[ $(readlink "$mnt/root/a/top") == "../../by-id/$(oid_of "$mnt/root")" ]]
    [[ $(readlink "$mnt/root/l/1/0") == "../../../by-id/$(oid_of "$mnt/root/a/in")" ]]
    [[ $(stat -c %s "$mnt/root/b") == 25 ]]
    # The links lead there, from wherever one stands.
    expect_text "$mnt/root/b/in/x" '1\n'
    expect_text "$mnt/root/l/1/0/x" '1\n'
    expect_text "$mnt/root/a/self/top/b/self/in/x" '1\n'
    [[ $mnt/root/a -ef $mnt/by-id/$id && $mnt/root/b -ef $mnt/root/a ]]
    run find -L "$mnt/root"
    [[ $status == 1 && $output == *'loop detected'* ]]
}

@test "what was a link is the folder when its home is gone" {
    make '{"a": {"x": [1]}, "b": {"$ref": "/a"}, "c": {"deep": {"$ref": "/a/x"}}}'
    mount_here
    ls -R "$mnt" >/dev/null
    [[ -L $mnt/root/b && -L $mnt/root/c/deep && ! -L $mnt/root/a ]]
    shobj del t:/a
    [[ ! -e $mnt/root/a && -d $mnt/root/b && ! -L $mnt/root/b ]]
    expect_text "$mnt/root/b/x/0" '1\n'
    expect_text "$mnt/root/c/deep/0" '1\n'
    shobj del t:/b
    [[ -d $mnt/root/c/deep && ! -L $mnt/root/c/deep ]]
    expect_text "$mnt/root/c/deep/0" '1\n'
}

@test "by-id finds any object, and nothing else" {
    make '{"a": {"b": {"c": 1}, "t": {"$tuple": [[5]]}}, "x": 1}'
    mount_here
    id=$(oid_of "$mnt/root/a")
    expect_names "$mnt/by-id/$id" b t
    expect_text "$mnt/by-id/$id/b/c" '1\n'
    expect_text "$mnt/by-id/$id/t/0/0" '5\n'
    [[ ! -L $mnt/by-id/$id/b && ! -L $mnt/root/a/b ]]
    inner=$(oid_of "$mnt/root/a/b")
    shobj del t:/a/b
    run ls "$mnt/by-id/0000000000000000" "$mnt/by-id/xyz" "$mnt/by-id/${id^^}x" "$mnt/by-id/1" "$mnt/by-id/ffffffffffffffff" \
        "$mnt/by-id/123456789abcdef0"
    [[ $(grep -c 'No such file' <<<"$output") == 6 ]]
    # A freed object's id is never another's.
    [[ ! -e $mnt/by-id/$inner ]] || expect_text "$mnt/by-id/$inner/c" '1\n'
}

@test ".json and .repr of every folder, not listed" {
    make '{"a": {"l": [1, null, "x\"y"], "t": {"$tuple": [1, 2]}, "self": {"$ref": "/a"}}, "fs": {"$set": [3]}, "e": {}}'
    mount_here
    [[ $(ls -A "$mnt/root" "$mnt/root/a") != *.json* ]]
    [[ $(jq -c . "$mnt/root/a/.json") == "$(shobj get --json t:/a | jq -c .)" ]]
    [[ $(jq -c .l "$mnt/root/a/.json") == '[1,null,"x\"y"]' ]]
    [[ $(jq -c . "$mnt/root/a/t/.json") == '[1,2]' && $(jq -c . "$mnt/root/e/.json") == '{}' ]]
    [[ $(jq -c .a.l "$mnt/root/.json") == '[1,null,"x\"y"]' ]]
    for path in '' /a /a/l /a/t /fs; do
        [[ $(cat "$mnt/root$path/.repr") == "$(shobj get "t:$path")" ]]
    done
    [[ $(cat "$mnt/by-id/$(oid_of "$mnt/root/a")/.repr") == "$(shobj get t:/a)" ]]
    [[ $(tail -c 2 "$mnt/root/.json") == '}' ]]
    run cat "$mnt/.json" "$mnt/root/a/l/0/.json"
    [[ $status == 1 ]]
}

@test "a .repr that is too long for memory" {
    shobj create t
    { printf '"'; head -c 35000000 /dev/zero | tr '\0' x; printf '"'; } | shobj load t:/big -
    shobj set t:/end '[1]'
    mount_here
    cmp "$mnt/root/.repr" <(shobj get t:)
    [[ $(tail -c 12 "$mnt/root/.repr") == "'end': [1]}" ]]
    [[ $(stat -c %s "$mnt/root/big") == 35000001 && $(wc -c <"$mnt/root/big") == 35000001 ]]
}

@test "attributes name type, id and version" {
    make '{"d": {"x": 1}, "l": [], "t": {"$tuple": []}, "fs": {"$set": []}, "i": 1, "big": 99999999999999999999, "f": 0.5,
           "c": {"$complex": [0, 1]}, "s": "", "b": {"$bytes": ""}, "n": null, "y": true}'
    mount_here
    cd "$mnt/root"
    for pair in d:dict l:list t:tuple fs:frozenset i:int big:int f:float c:complex s:str b:bytes n:None y:bool; do
        [[ $(getfattr --only-values -n user.shobj.type "${pair%:*}") == "${pair#*:}" ]]
    done
    [[ $(oid_of .) == "$(oid_of "$mnt/by-id/$(oid_of .)")" ]]
    before=$(getfattr --only-values -n user.shobj.version d)
    shobj set t:/d/x 2
    (($(getfattr --only-values -n user.shobj.version d) > before))
    [[ $(getfattr -d d | grep -c =) == 3 && $(getfattr -d i | grep -c =) == 1 ]]
    run getfattr -n user.shobj.oid i
    [[ $status == 1 && $output == *'No such attribute'* ]]
    run getfattr -n user.other d
    [[ $status == 1 && $output == *'No such attribute'* ]]
    cd /
}

@test "find, ls -R, cp -r and grep -r see everything once" {
    make '{"a": {"b": ["needle", {"c": "needle too"}], "t": {"$tuple": ["hay", 1]}}, "n": 5, "z": {"shared": {"$ref": "/a/b"}}}'
    mount_here
    diff <(cd "$mnt/root" && find . | LC_ALL=C sort) - <<'TEXT'
.
./a
./a/b
./a/b/0
./a/b/1
./a/b/1/c
./a/t
./a/t/0
./a/t/1
./n
./z
./z/shared
TEXT
    [[ $(ls -R "$mnt/root" | grep -c :) == 6 ]]
    [[ $(grep -rl needle "$mnt/root" | wc -l) == 2 ]]
    [[ $(grep -rh hay "$mnt") == hay ]]
    cp -r "$mnt/root" "$BATS_TEST_TMPDIR/copy"
    [[ $(cat "$BATS_TEST_TMPDIR/copy/a/b/1/c") == 'needle too' && -L $BATS_TEST_TMPDIR/copy/z/shared ]]
    [[ $(find "$BATS_TEST_TMPDIR/copy" -type f | wc -l) == 5 ]]
    chmod -R u+w "$BATS_TEST_TMPDIR/copy"
    tar -C "$mnt" -cf "$BATS_TEST_TMPDIR/tar" root
    [[ $(tar -tf "$BATS_TEST_TMPDIR/tar" | wc -l) == 12 ]]
}

@test "stat and sessions" {
    make '{"a": {}}'
    mount_here
    [[ $(grep -c '^[a-z_]* [0-9]*$' "$mnt/stat") == 20 ]]
    grep -q '^objects 2$' "$mnt/stat"
    wait_until grep -lq "^pid $fs\$" "$mnt"/sessions/*
    one=$(grep -l "^pid $fs\$" "$mnt"/sessions/* | head -n 1)
    grep -q '^alive true$' "$one"
    grep -q "^session ${one##*/}\$" "$one"
    run cat "$mnt/sessions/99999" "$mnt/sessions/x" "$mnt/sessions/00"
    [[ $(grep -c 'No such file' <<<"$output") == 3 ]]
    cp "$mnt/stat" "$BATS_TEST_TMPDIR/stat"
    [[ -s $BATS_TEST_TMPDIR/stat ]]
}
