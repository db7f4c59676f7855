#!/usr/bin/env bats
# load and dump: exactness, forms of input, all or nothing.
# shellcheck disable=SC2016,SC1003 # the tags of a dump begin with '$', escapes of JSON with '\'

load common

# The text of a dump: what load and dump make of it is the same text.
exact()
{
    exits 0 shobj load bank:/v - <<<"$1"
    prints "$1" shobj dump bank:/v
}

@test "every value has an exact text" {
    exits 0 shobj create bank
    while IFS= read -r text; do
        exact "$text"
    done <<'TEXT'
null
[true, false, null]
9223372036854775808
-123456789012345678901234567890123456789012345678901234567890
[1, 1.0, -0.0, 0, 1e+300, 5e-324]
{"$float": "nan"}
[{"$float": "inf"}, {"$float": "-inf"}, {"$float": "fff8000000000001"}]
{"$complex": [1.0, {"$float": "nan"}]}
{"$bytes": ""}
{"$bytes": "AP9h"}
{"$str": "7aCA"}
["", "a\u0000b", "\"\\/", "é€😀", "\u007f\u0085"]
{"$tuple": []}
{"$tuple": [1, {"$tuple": [{"$bytes": "YQ=="}]}, [2]]}
{"$set": []}
{"$set": [{"$tuple": [2.5]}]}
{"": 1, "b": 2, "a": {"b": {}}}
{"$dict": [[1, "int"], ["1", "str"], [{"$bytes": "MQ=="}, "bytes"], [null, []], [{"$tuple": [1, 2]}, {}]]}
{"$dict": [["$tuple", [1]]]}
{"$dict": [["$x", 1], ["y", 2]]}
{"$dict": [[{"$float": "inf"}, 1], [1.5, 2]]}
{"$dict": [[{"$str": "7aCA"}, 1]]}
[[], [[], {}], {"a": []}]
TEXT
}

@test "shared objects and cycles are kept" {
    exits 0 shobj create bank
    while IFS= read -r text; do
        exact "$text"
    done <<'TEXT'
[{"$ref": ""}]
{"a": [1], "b": {"$ref": "/a"}, "c": [{"$ref": "/a"}, {"$ref": "/c"}, {"$ref": ""}]}
{"a/b": {"~": []}, "c": {"$ref": "/a~1b/~0"}}
{"$dict": [[1, {"x": []}], [2, {"$ref": "/~=1/x"}]]}
{"$tuple": [[1], {"$ref": "/0"}]}
[{"$tuple": [[1], {"$ref": "/0/0"}, {"$ref": ""}]}, {"$ref": "/0/0"}]
{"t": {"$tuple": [{"$tuple": [{"k": {"$ref": ""}}]}]}, "u": {"$ref": "/t/0/0"}}
TEXT
    exits 0 shobj load bank:/v - <<<'{"a": [1], "b": {"$ref": "/a"}}'
    exits 0 shobj set bank:/v/b/0 2
    prints "[2]" shobj get bank:/v/a
}

@test "dump and load copy a whole store" {
    exits 0 shobj create a
    exits 0 shobj create b
    exits 0 shobj load a: - <<<'{"x": {"$tuple": [[1], {"$ref": "/x/0"}]}, "me": {"$ref": ""}, "n": 5}'
    exits 0 shobj set b:/old 1
    shobj dump a: | shobj load b:
    [[ $(shobj dump a:) == "$(shobj dump b:)" ]]
    prints 5 shobj get b:/me/me/n
    shobj dump --indent 4 a: | shobj load b: -
    [[ $(shobj dump a:) == "$(shobj dump b:)" ]]
    exits 0 shobj check b
}

@test "plain JSON of every kind" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/v - <<<' { "a" : [ 1 , -2.5E+3 , "\u00e9\ud83d\ude00\n\/" ] , "$schema" : "x", "b": { "$any" : 1 } } '
    prints "{'a': [1, -2500.0, 'é😀\\n/'], '\$schema': 'x', 'b': {'\$any': 1}}" shobj get bank:/v
    exits 0 shobj load bank:/v - <<<'{"a": 1, "b": 2, "a": 3}'
    prints "{'a': 3, 'b': 2}" shobj get bank:/v
    exits 0 shobj load bank:/v - <<<'["\ud800", "\udc00\ud800x", "\ud800\ud800\udc00", "\\ud800"]'
    prints "['\\ud800', '\\udc00\\ud800x', '\\ud800𐀀', '\\\\ud800']" shobj get bank:/v
    exits 0 shobj load bank:/v - < <(printf '\xef\xbb\xbf[1]')
    prints "[1]" shobj get bank:/v
}

@test "a dict that only begins like a tag is a dict" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/v - <<<'{"$tuple": [1, [2]], "b": 2}'
    prints "{'\$tuple': [1, [2]], 'b': 2}" shobj get bank:/v
    exits 0 shobj load bank:/v - <<<'{"$dict": [[1, 2], [3, [4]]], "b": 2}'
    prints "{'\$dict': [[1, 2], [3, [4]]], 'b': 2}" shobj get bank:/v
    exits 0 shobj load --plain bank:/v - <<<'{"a": {"$ref": "#/x"}, "b": {"$tuple": [1]}}'
    prints "{'a': {'\$ref': '#/x'}, 'b': {'\$tuple': [1]}}" shobj get bank:/v
}

@test "JSON Lines become a list" {
    exits 0 shobj create bank
    printf '{"a": 1}\n{"a": 2}\n\n[3]\n4\n"5"\n' >lines
    exits 0 shobj load bank:/v lines
    prints "[{'a': 1}, {'a': 2}, [3], 4, '5']" shobj get bank:/v
    exits 0 shobj load --lines bank:/v - <<<'7'
    prints "[7]" shobj get bank:/v
    exits 0 shobj load --lines bank:/v - </dev/null
    prints "[]" shobj get bank:/v
    echo '{"b": 1}' >one.jsonl
    exits 0 shobj load bank:/v one.jsonl
    prints "[{'b': 1}]" shobj get bank:/v
    exits 2 shobj load bank:/v - <<<'1 2'
    says "*line 1, column 3:*"
    exits 2 shobj load bank:/v - < <(printf '{"a": 1}\n{"a": 2\n')
    says "*line 3*"
    prints "[{'b': 1}]" shobj get bank:/v
}

@test "invalid JSON names line and column, and nothing changes" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/v "[1]"
    while IFS='|' read -r place text; do
        exits 2 shobj load bank:/v - < <(printf '%b' "$text")
        says "shobj load: standard input, line ${place%:*}, column ${place#*:}: *nothing was loaded"
    done <<'TEXT'
1:8|{"a":1,}
1:2|{a:1}
3:1|[1,\n2,\n,3]
1:3|[01]
1:1|}
2:3|[\n"a\tb"]
1:3|["\xff"]
1:3|nul
1:3|["\\q"]
2:7|{"a": 1,\n "b": }
1:6|[1e999]
1:13|{"$bytes": 5}
1:15|{"$bytes": "a"}
1:13|{"$tuple": 5}
1:18|{"$set": [1, 1.0]}
1:14|{"$dict": [1]}
TEXT
    for text in '' ' ' '[1' '"abc' '{"a"'; do
        exits 2 shobj load bank:/v - <<<"$text"
        says "shobj load: standard input, *"
    done
    exits 2 shobj load bank:/v - <<<'{"a": {"$ref": "/nothing"}}'
    says '*/nothing*'
    exits 2 shobj load bank:/v - <<<'{"a": {"$ref": "/b"}, "b": 5}'
    exits 2 shobj load bank: - <<<'[1]'
    says "*root*"
    exits 2 shobj load bank: - <<<'{"$tuple": []}'
    prints "{'v': [1]}" shobj get bank:
    exits 0 shobj stat --json bank
    jq -e '.objects == 2' <<<"$output"
}

@test "bad files" {
    exits 0 shobj create bank
    exits 3 shobj load bank:/v nothing.json
    says "*nothing.json*"
    mkdir folder
    exits 3 shobj load bank:/v folder
    says "*folder*"
    exits 1 shobj load bank:/a/b - <<<'1'
    says "*'/a'*"
    echo '[1, 2' >bad.json
    exits 2 shobj load bank:/v bad.json
    says "shobj load: bad.json, line 2*"
}

@test "huge integers survive" {
    exits 0 shobj create bank
    digits=$(printf '%.0s1234567890' {1..2000})
    exact "[-$digits, $digits]"
    exits 0 shobj load bank:/v - <<<"99999999999999999999999999999999999999"
    prints 99999999999999999999999999999999999999 shobj get bank:/v
}

@test "a large load is one transaction that others see whole or not at all" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/d "{'n': 0}"
    echo "{" >large
    for i in {1..20000}; do echo "\"key$i\": {\"id\": $i, \"name\": \"name $i\", \"tags\": [\"a\", \"b\"]},"; done >>large
    echo '"n": 20000}' >>large
    # A reader all the while, and a writer that makes the transaction run again.
    (while [[ ! -e loaded ]]; do shobj get --json bank:/d | jq -e '(length - 1) == .n' >>seen || touch torn; done) &
    (while [[ ! -e loaded ]]; do shobj set bank:/other "[1]"; done) &
    exits 0 shobj load --json bank:/d large
    touch loaded
    jq -e '.values > 100000' <<<"$output"
    wait
    [[ ! -e torn ]]
    shobj get --json bank:/d | jq -e '.key20000 == {"id": 20000, "name": "name 20000", "tags": ["a", "b"]}'
    [[ $(shobj get --json bank:/d | jq -c .) == "$(jq -c . large)" ]]
    exits 0 shobj check bank
}

@test "input from a pipe, in small pieces" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/v < <(for part in '["\ud8' '3d\ude' '00", 12' '34, "\\' '"]'; do printf '%s' "$part"; done)
    prints "['😀', 1234, '\\\\']" shobj get bank:/v
    # Escapes at every place of a block's end.
    python=${PYTHON:-python3}
    "$python" - >blocks.json <<'PYTHON'
import json
parts = ["\ud800", "\U0001f600", "\\", "\udfff\ud800", "x" * 7, "é"]
print(json.dumps(["".join(parts[(i + j) % 6] for j in range(9)) for i in range(30000)]))
PYTHON
    exits 0 shobj load bank:/v blocks.json
    shobj get --json bank:/v | "$python" -c 'import json, sys; sys.exit(json.load(sys.stdin) != json.load(open("blocks.json")))'
}
