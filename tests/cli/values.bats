#!/usr/bin/env bats
# Values and addresses: get, cat, set, del, ls, tree.
# shellcheck disable=SC2016 # the tags of a dump begin with '$'

load common


# A value goes in and comes out as the same literal.
keeps()
{
    exits 0 shobj set bank:/v -- "$1"
    prints "$1" shobj get bank:/v
}

@test "scalars of all types keep their type and every digit" {
    exits 0 shobj create bank
    for value in None True False 0 -1 9223372036854775807 -9223372036854775808 9223372036854775808 \
        -9223372036854775809 340282366920938463463374607431768211456 1.0 -0.0 0.1 1e+16 1e-05 5e-324 \
        1.7976931348623157e+308 inf -inf nan 2j '(1+2j)' '(-0-2j)' "''" "'abcdef'" "'héllo €'" "'\\x00\\ud800'" "b''" \
        "b'\\x00\\xff'" '()' '(1,)' "(1, ('a', b'b'), None)" 'frozenset()' 'frozenset({1})' "'it\\'s \"q\"'" "\"it's\""; do
        keeps "$value"
    done
    keeps "$(printf '%.0s7' {1..5000})"
}

@test "other ways to write the same" {
    exits 0 shobj create bank
    while IFS='|' read -r text expected; do
        exits 0 shobj set bank:/v "$text"
        prints "$expected" shobj get bank:/v
    done <<'TEXT'
0x_ff|255
-0b101|-5
0o17|15
1_000|1000
.5|0.5
1E3|1000.0
+7|7
"text"|'text'
'\u00e9\t\x41\101'|'é\tAA'
r'\n'|'\\n'
rb'\n'|b'\\n'
(5)|5
( 1 , 2 , )|(1, 2)
frozenset([1, 1.0, True])|frozenset({1})
 [ ] |[]
{'a':1,}|{'a': 1}
TEXT
}

@test "containers nest, and reading them keeps order and types" {
    exits 0 shobj create bank
    keeps "[1, [2, (3, [4], {})], {'b': 1, 'a': {1: None, (1, 'x'): [], b'k': {}, None: 0, '': ''}}]"
    prints "[4]" shobj get bank:/v/1/1/1
    prints "[]" shobj get "bank:/v/2/a/~=(1, 'x')"
    prints "{}" shobj get "bank:/v/2/a/~=b'k'"
    prints "''" shobj get "bank:/v/2/a/~=''"
    prints "None" shobj get "bank:/v/2/a/~=1"
    prints "None" shobj get "bank:/v/2/a/~=1.0"
    prints "0" shobj get "bank:/v/2/a/~=None"
}

@test "path steps are escaped and unescaped" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/v "{'a/b': 1, 'a~b': 2, '~=x': 3, '.': 4, 'new\nline': 5, ' ': 6, '-': 7, '0': 8, 0: 9, '\ud800': 10}"
    exits 0 shobj ls bank:/v
    is "a~1b
a~0b
~0=x
~='.'
~='new\\nline'
 
-
0
~=0
~='\\ud800'"
    index=1
    while IFS= read -r step; do
        prints "$index" shobj get "bank:/v/$step"
        index=$((index + 1))
    done <<<"$output"
}

@test "indices count from both ends, and - appends" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/l "[1, 2, 3]"
    prints 3 shobj get bank:/l/-1
    prints 1 shobj get bank:/l/-3
    exits 0 shobj set bank:/l/- 4
    exits 0 shobj set bank:/l/0 "'first'"
    exits 0 shobj set bank:/l/-1 -4
    prints "['first', 2, 3, -4]" shobj get bank:/l
    exits 0 shobj del bank:/l/1
    exits 0 shobj del bank:/l/-1
    prints "['first', 3]" shobj get bank:/l/
    prints 3 shobj get bank:/l/~=1
}

@test "an object is reached by its id" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a "{'b': [5]}"
    exits 0 shobj ls --json bank:
    oid=$(jq -r '.[0].oid' <<<"$output")
    prints "{'b': [5]}" shobj get "bank:@$oid"
    prints 5 shobj get "bank:@$oid/b/0"
    exits 0 shobj set "bank:@$oid/c" 6
    prints "{'b': [5], 'c': 6}" shobj get bank:/a
    exits 2 shobj set "bank:@$oid" 6
}

@test "get --json and --indent" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/v "{'t': (1, 2.0), 'b': b'xy', 3: nan, 's': frozenset({1}), 'n': None}"
    prints '{"t": [1, 2.0], "b": "eHk=", "3": null, "s": [1], "n": null}' shobj get --json bank:/v
    prints "{
 't': (
  1,
  2.0
 ),
 'b': b'xy',
 3: nan,
 's': frozenset({
  1
 }),
 'n': None
}" shobj get --indent 1 bank:/v
}

@test "cat prints text, bytes and numbers raw" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/v "{'s': 'a\nb', 'b': b'\x00\xff', 'f': inf, 'i': 5, 'n': None, 'l': [1], 't': (True,)}"
    for pair in "s:610a620a" "b:00ff" "f:696e660a" "i:350a" "n:6e756c6c0a" "l:5b0a2020310a5d0a" "t:5b747275655d0a"; do
        [[ $(shobj cat "bank:/v/${pair%%:*}" | od -An -tx1 | tr -d ' \n') == "${pair#*:}" ]]
    done
}

@test "set reads standard input, literal or JSON" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a - <<<"[1, 'two']"
    prints "[1, 'two']" shobj get bank:/a
    exits 0 shobj set --json bank:/a - <<<'{"a": [true, null, {"$tuple": [1]}]}'
    prints "{'a': [True, None, (1,)]}" shobj get bank:/a
    exits 0 shobj set --json bank:/a '"\u00e9"'
    prints "'é'" shobj get bank:/a
    exits 2 shobj set --json bank:/a "{'a': 1}"
    says "*line 1, column 2:*"
    prints "'é'" shobj get bank:/a
}

@test "set --if-value is compare-and-set" {
    exits 0 shobj create bank
    exits 1 shobj set --if-value 1 bank:/n 2
    exits 0 shobj set bank:/n 1
    exits 4 shobj set --if-value 2 bank:/n 3
    says "*not 2 but 1*"
    exits 4 shobj set --if-value 1.0 bank:/n 3
    exits 2 shobj set --if-value x bank:/n 3
    exits 0 shobj set --if-value 1 bank:/n 2
    prints 2 shobj get bank:/n
    exits 0 shobj set bank:/n 0
    # Increments by competitors, none lost.
    for _ in 1 2 3; do
        (
            for _ in {1..20}; do
                until n=$(shobj get bank:/n) && shobj set --if-value "$n" bank:/n "$((n + 1))" 2>/dev/null; do :; done
            done
        ) &
    done
    wait
    prints 60 shobj get bank:/n
}

@test "ls -l shows types, sizes and versions; -d the object itself" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/v "{'l': [1, 2], 's': 'é', 'b': b'xyz', 'i': 5, 't': (1,), 'd': {}}"
    exits 0 shobj ls -l bank:/v
    [[ $(cut -f 1,2,4 <<<"$output") == "list	2	l
str	2	s
bytes	3	b
int	-	i
tuple	1	t
dict	0	d" ]]
    exits 0 shobj ls -ld bank:/v
    [[ ${output//$'\t'/|} =~ ^dict\|6\|[0-9]+\|v$ ]]
    version=$(cut -f 3 <<<"$output")
    exits 0 shobj set bank:/v/i 6
    exits 0 shobj ls -ld bank:/v
    (($(cut -f 3 <<<"$output") > version))
    prints "0
1" shobj ls bank:/v/l
    prints "i" shobj ls bank:/v/i
    exits 0 shobj ls --json bank:/v
    jq -e 'map(.type) == ["list", "str", "bytes", "int", "tuple", "dict"] and .[0].oid != null' <<<"$output"
    exits 0 shobj ls -ld --json bank:
    jq -e '.[0].type == "dict" and .[0].size == 1' <<<"$output"
}

@test "ls of a large dict names every key once, in order" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/d - < <(echo "{"; for i in {1..4999}; do echo "\"key$i\": [],"; done; echo '"key5000": 1}')
    prints "$(printf 'key%s\n' {1..5000})" shobj ls bank:/d
    exits 0 shobj ls -l bank:/d
    (($(grep -c $'^list\t0\t' <<<"$output") == 4999))
}

@test "tree draws what is below" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/v "{'l': [1, [2]], 't': (1, [2]), 's': 'x', 'e': {}}"
    prints "bank:/v/  dict of 4
├── l/  list of 2
│   ├── 0: 1
│   └── 1/  list of 1
│       └── 0: 2
├── t: (1, [...])
├── s: 'x'
└── e/  dict of 0" shobj tree bank:/v
    prints "bank:/v/  dict of 4
├── l/  list of 2, not shown
├── t: (1, [...])
├── s: 'x'
└── e/  dict of 0" shobj tree -L 1 bank:/v/
    LC_ALL=C prints "bank:/v/l/  list of 2
|-- 0: 1
\`-- 1/  list of 1
    \`-- 0: 2" shobj tree bank:/v/l
    prints "bank:/v/s: 'x'" shobj tree bank:/v/s
    exits 0 shobj tree --json -L 1 bank:/v
    jq -e '.l == "..." and .s == "x"' <<<"$output"
}

@test "tree and get end at cycles" {
    exits 0 shobj create bank
    exits 0 shobj load bank:/v - <<<'[1, {"a": {"$ref": ""}}]'
    prints "[1, {'a': [...]}]" shobj get bank:/v
    exits 0 shobj get --json bank:/v
    jq -e '.[1].a["$ref"] | startswith("@")' <<<"$output"
    exits 0 shobj tree bank:/v
    [[ $output == *"a -> @"*"which is above" ]]
}

@test "deep nesting costs no stack" {
    exits 0 shobj create bank
    depth=100000
    printf '[%.0s' $(seq $depth) >deep
    printf ']%.0s' $(seq $depth) >>deep
    exits 0 shobj load bank:/v deep
    shobj dump bank:/v >again
    cmp deep <(tr -d '\n' <again)
    shobj get bank:/v >/dev/null
    exits 0 shobj check bank
}

@test "a long value is cut in a tree, between characters" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/s "'a$(printf 'é%.0s' {1..100})'"
    exits 0 shobj tree bank:
    [[ $output == *"s: 'aé"*"é..." ]]
    iconv -f utf-8 -t utf-8 <<<"$output" >/dev/null
}

@test "del --json and messages" {
    exits 0 shobj create bank
    exits 0 shobj set bank:/a 1
    prints '{"deleted": "bank:/a"}' shobj del --json bank:/a
    exits 1 shobj del bank:/a
    says "shobj del: path '/a':*"
}
