#!/usr/bin/env bats
# copy: a store in a new file.

load common

@test "a copy has the same contents, sharing and cycles, and nothing else" {
    exits 0 shobj create --max-size 64M bank
    # shellcheck disable=SC2016 # "$ref" is no variable
    exits 0 shobj load bank: <<<'{"a": {"shared": [1, {"$float": "nan"}]}, "b": [{"$ref": "/a/shared"}], "ring": [{"$ref": "/ring"}],
        "k": {"$dict": [[{"$tuple": [1, {"$bytes": "AAH/"}]}, "v"], [7, null]]}, "big": 123456789012345678901234567890}'
    exits 0 shobj load bank:/gone <<<"[$(seq -s, 1 200000)]"
    exits 0 shobj del bank:/gone
    exits 0 shobj gc --growth 33 bank
    exits 0 shobj dump bank
    dump=$output
    exits 0 shobj copy --compact bank new
    is ""
    prints "$dump" shobj dump new
    exits 0 shobj set new:/b/0/- 2
    prints "[1, nan, 2]" shobj get new:/a/shared
    prints "[1, nan]" shobj get bank:/a/shared
    exits 0 shobj check new
    exits 0 shobj stat --json new
    jq -e '.objects == 6 and .max_bytes == 67108864 and .gc_growth == 33' <<<"$output"
    (($(stat -c '%b' "$SHOBJ_DIR/new") < $(stat -c '%b' "$SHOBJ_DIR/bank")))
    exits 0 shobj gc -n --json new
    jq -e '.would_free == 0' <<<"$output"
}

@test "options, and what copy refuses" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/big <<<"[$(seq -f '"some text of its own %g"' -s, 1 100000)]"
    exits 0 shobj copy --max-size 32M --mode 640 --json bank new
    jq -e '.bytes > 2000000' <<<"$output"
    [[ $(stat -c %a "$SHOBJ_DIR/new") == 640 ]]
    exits 0 shobj stat --json new
    jq -e '.max_bytes == 33554432' <<<"$output"
    exits 7 shobj copy bank new
    says "*new*exists*"
    exits 6 shobj copy --max-size 4M bank small
    prints $'bank\nnew' shobj ls
    exits 3 shobj copy nothing other
    exits 2 shobj copy bank:/big other
    exits 2 shobj copy bank other:
    exits 2 shobj copy bank
    prints $'bank\nnew' shobj ls
}

@test "copy at the prompt, of the store that is open" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a 1
    on_terminal $'copy bank new\nexit\n' shobj open bank
    prints "{'a': 1}" shobj get new:
}
