"""Dict beside dict: the same operations on both, the same results, exceptions and contents."""

import collections
import collections.abc
import operator
import types

import pytest
import shobj
from conftest import outcome

START = {"a": 1, "b": 2.5, 3: "three", (1, "x"): None, b"k": b"v", True: "one", "c": "c" * 100}

OPERATIONS = {
    "getitem": lambda d: d["a"],
    "getitem-equal-key": lambda d: (d[1.0], d[True], d[1]),
    "getitem-missing": lambda d: d["zz"],
    "getitem-missing-tuple": lambda d: d[(1, 2)],
    "getitem-unhashable": lambda d: d[[]],
    "getitem-unhashable-inside": lambda d: d[(1, [])],
    "getitem-object": lambda d: d[print],
    "setitem": lambda d: d.__setitem__("a", 7),
    "setitem-new": lambda d: d.__setitem__("new", 7),
    "setitem-unhashable": lambda d: d.__setitem__([], 7),
    "setitem-equal-key": lambda d: d.__setitem__(1.0, "still True"),
    "delitem": lambda d: d.__delitem__("a"),
    "delitem-missing": lambda d: d.__delitem__("zz"),
    "delitem-unhashable": lambda d: d.__delitem__({}),
    "delitem-object": lambda d: d.__delitem__(print),
    "contains": lambda d: ("a" in d, "zz" in d, 3.0 in d, None in d, print in d),
    "contains-unhashable": lambda d: [] in d,
    "get": lambda d: (d.get("a"), d.get("zz"), d.get("zz", 5), d.get(print, 6)),
    "get-unhashable": lambda d: d.get([]),
    "get-without-arguments": lambda d: d.get(),
    "get-too-many": lambda d: d.get(1, 2, 3),
    "setdefault": lambda d: (d.setdefault("a", 9), d.setdefault("n"), d.setdefault("m", 4), d.setdefault("m", 5)),
    "setdefault-unhashable": lambda d: d.setdefault([], 1),
    "pop": lambda d: (d.pop("a"), d.pop("zz", None), d.pop(3)),
    "pop-missing": lambda d: d.pop("zz"),
    "pop-unhashable": lambda d: d.pop([]),
    "pop-unhashable-default": lambda d: d.pop([], None),
    "popitem": lambda d: (d.popitem(), d.popitem()),
    "popitem-all": lambda d: [d.popitem() for _ in range(len(d))],
    "popitem-empty": lambda d: (d.clear(), d.popitem()),
    "update-dict": lambda d: d.update({"a": 5, "x": 6}),
    "update-pairs": lambda d: d.update([("a", 5), ("x", 6), ("a", 7)]),
    "update-iterator": lambda d: d.update(iter([("x", 6)])),
    "update-keywords": lambda d: d.update(a=5, y=6),
    "update-both": lambda d: d.update({"a": 1, "q": 2}, a=5, y=6),
    "update-nothing": lambda d: d.update(),
    "update-self": lambda d: d.update(d),
    "update-mapping": lambda d: d.update(types.MappingProxyType({"m": 1})),
    "update-bad-pairs": lambda d: d.update([(1, 2, 3)]),
    "update-not-iterable": lambda d: d.update(5),
    "update-unhashable": lambda d: d.update([([], 1)]),
    "update-two": lambda d: d.update({}, {}),
    "clear": lambda d: (d.clear(), len(d), bool(d)),
    "len": len,
    "bool": bool,
    "list": list,
    "reversed": lambda d: list(reversed(d)),
    "keys": lambda d: list(d.keys()),
    "values": lambda d: list(d.values()),
    "items": lambda d: list(d.items()),
    "reversed-keys": lambda d: list(reversed(d.keys())),
    "reversed-values": lambda d: list(reversed(d.values())),
    "reversed-items": lambda d: list(reversed(d.items())),
    "views-len": lambda d: (len(d.keys()), len(d.values()), len(d.items())),
    "views-contain": lambda d: (
        "a" in d.keys(),  # noqa: SIM118
        "zz" in d.keys(),  # noqa: SIM118
        1 in d.values(),
        99 in d.values(),
        ("a", 1) in d.items(),
        ("a", 2) in d.items(),
        ("zz", 2) in d.items(),
        "a" in d.items(),
    ),
    "items-contain-unhashable": lambda d: ([], 1) in d.items(),
    "keys-and": lambda d: d.keys() & {"a", "q"},
    "keys-and-iterable": lambda d: d.keys() & iter(["a", "q", 3]),
    "keys-rand": lambda d: {"a", "q"} & d.keys(),
    "keys-or": lambda d: d.keys() | {"q"},
    "keys-or-list": lambda d: d.keys() | ["q"],
    "keys-ror": lambda d: {"q"} | d.keys(),
    "keys-sub": lambda d: d.keys() - {"a", 3},
    "keys-rsub": lambda d: {"a", "q"} - d.keys(),
    "keys-xor": lambda d: d.keys() ^ {"a", "q"},
    "keys-not-iterable": lambda d: d.keys() & 5,
    "keys-compare": lambda d: (
        d.keys() == set(START),
        d.keys() != {"a"},
        d.keys() >= {"a"},
        d.keys() > {"a"},
        d.keys() <= {"a"},
        d.keys() < {"a"},
        d.keys() == ["a"],
        {"a"} <= d.keys(),
    ),
    "keys-isdisjoint": lambda d: (d.keys().isdisjoint(["a"]), d.keys().isdisjoint(["q"])),
    "items-and": lambda d: d.items() & {("a", 1), ("b", 9)},
    "items-or": lambda d: d.items() | {("q", 1)},
    "items-sub": lambda d: d.items() - {("a", 1)},
    "items-compare": lambda d: (d.items() == set(START.items()), d.items() > {("a", 1)}, d.items() != set()),
    "values-compare": lambda d: d.values() == d.values(),
    "view-of-itself": lambda d: (d.keys() == d.keys(), d.items() == d.items()),
    "keys-hash": lambda d: hash(d.keys()) and None,
    "mapping": lambda d: d.keys().mapping["a"],
    "eq": lambda d: (d == dict(START), d == {}, d != {}, d == 5, d != 5, d == collections.OrderedDict(START)),
    "eq-reflected": lambda d: (dict(START) == d, d == {}, {"a": 1} != d),
    "eq-order": lambda d: d == dict(reversed(list(START.items()))),
    "lt": lambda d: operator.lt(d, {}) and None,
    "or": lambda d: d | {"a": 9, "z": 1},
    "ror": lambda d: {"a": 9, "z": 1} | d,
    "or-pairs": lambda d: outcome(lambda: d | [("a", 9)])[:2],
    "ior": lambda d: operator.ior(d, {"a": 9, "z": 1}) is d,
    "ior-pairs": lambda d: operator.ior(d, [("a", 9)]) is d,
    "ior-bad": lambda d: operator.ior(d, 5),
    "copy": lambda d: d.copy(),
    "fromkeys": lambda d: (d.fromkeys("ab", 1), type(d).fromkeys([1]), d.fromkeys([])),
    "unpack": lambda d: {**d, "z": 1},
    "keywords": lambda d: dict(**{k: v for k, v in d.items() if isinstance(k, str)}),
    "star": lambda d: [*d],
    "sorted": lambda d: sorted(k for k in d if isinstance(k, str)),
    "iter-exhausted": lambda d: (lambda i: (len(list(i)), next(i, "end")))(iter(d)),
    "length-hint": lambda d: operator.length_hint(iter(d)),
    "index-error": lambda d: d[0],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_like_dict(store, name):
    native, shared = dict(START), store.dict(START)
    expected, found = outcome(lambda: OPERATIONS[name](native)), outcome(lambda: OPERATIONS[name](shared))
    if expected[0] == "error":
        assert found[:2] == expected[:2]
        if expected[1] is KeyError:
            assert found[2] == expected[2]
    else:
        assert found == expected
        assert type(found[1]) is type(expected[1])
    assert list(shared.items()) == list(native.items())
    assert len(shared) == len(native)


def test_unhashable_itself(store):
    with pytest.raises(TypeError, match="unhashable"):
        hash(store.dict())


def test_not_made_directly():
    with pytest.raises(TypeError):
        shobj.Dict()


def test_not_subclassable():
    with pytest.raises(TypeError):
        type("Sub", (shobj.Dict,), {})


def test_abstract_classes(store):
    shared = store.dict(a=1)
    assert isinstance(shared, collections.abc.MutableMapping)
    assert isinstance(shared.keys(), collections.abc.KeysView)
    assert isinstance(shared.values(), collections.abc.ValuesView)
    assert isinstance(shared.items(), collections.abc.ItemsView)
    assert not isinstance(shared, collections.abc.Hashable)
    assert shobj.Dict[str, int] == types.GenericAlias(shobj.Dict, (str, int))


def test_match(store):
    match store.dict(kind="circle", radius=2, extra=[1]):
        case {"kind": "square"}:
            pytest.fail("matched the wrong kind")
        case {"kind": "circle", "radius": int(radius), **rest}:
            assert radius == 2
            assert rest == {"extra": [1]}
        case _:
            pytest.fail("a Dict is no mapping")


def test_update_from_shared(store):
    left, right = store.dict(a=1, b=2), store.dict(b=3, c=[4])
    left.update(right, d=5)
    assert left == {"a": 1, "b": 3, "c": [4], "d": 5}
    assert left["c"] is right["c"]
    left |= right
    assert (right | left) == {"b": 3, "c": [4], "a": 1, "d": 5}


def test_update_is_all_or_nothing(store):
    shared = store.dict(a=1)
    with pytest.raises(shobj.NotShareableError):
        shared.update({"a": 2, "b": object()})
    with pytest.raises(ZeroDivisionError):
        shared.update((k, 1 // (3 - k)) for k in range(9))
    assert shared == {"a": 1}


def test_update_with(store):
    shared = store.dict(n=1)
    assert shared.update_with("n", lambda n: n + 1) == 2
    assert shared.update_with("words", lambda words: [*words, "x"], []) == ["x"]
    assert shared.update_with(key="m", function=lambda m: m * 2, default=21) == 42
    assert shared == {"n": 2, "words": ["x"], "m": 42}
    with pytest.raises(KeyError, match="absent"):
        shared.update_with("absent", lambda n: n)
    with pytest.raises(ZeroDivisionError):
        shared.update_with("n", lambda n: n // 0)
    with pytest.raises(shobj.NotShareableError):
        shared.update_with("n", lambda n: print)
    with pytest.raises(TypeError):
        shared.update_with("n", 5)
    with pytest.raises(TypeError):
        shared.update_with("n")
    assert shared["n"] == 2


def test_update_with_undoes_what_its_function_did(store):
    shared = store.dict(n=1)

    def spoil(n):
        shared["other"] = n
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shared.update_with("n", spoil)
    assert shared == {"n": 1}


def test_setdefault_with_container(store):
    shared = store.dict()
    made = shared.setdefault("l", [1, [2]])
    assert isinstance(made, shobj.List)
    made.append(3)
    assert shared.setdefault("l", "unused") is made
    assert shared == {"l": [1, [2], 3]}


def test_large(store):
    native = {f"key {i}": i for i in range(5000)}
    shared = store.dict(native)
    assert shared == native
    for i in range(0, 5000, 3):
        del native[f"key {i}"], shared[f"key {i}"]
    for i in range(1000):
        native[i] = shared[i] = str(i)
    assert list(shared.items()) == list(native.items())
    assert list(reversed(shared)) == list(reversed(native))
    assert all(shared[key] == native[key] for key in native)


def test_keys_of_every_kind(store):
    keys = [None, True, 2, -(2**70), 2**63, 1.5, float("inf"), 1 + 2j, "", "é", "\ud800", "\U0001f600", b"", b"\0", (),
            (1, (2, "x")), frozenset(), frozenset({1, (2, frozenset({3}))}), "x" * 1000]
    shared = store.dict()
    for number, key in enumerate(keys):
        shared[key] = number
    assert list(shared) == keys
    for number, key in enumerate(keys):
        assert shared[key] == number
        assert key in shared
    assert shared == {key: number for number, key in enumerate(keys)}


def test_equal_keys_are_one(store):
    shared = store.dict({1: "a", 2**53: "b", 0: "c"})
    assert (shared[1.0], shared[True], shared[1 + 0j]) == ("a", "a", "a")
    assert (shared[2.0**53], shared[0.0], shared[-0.0], shared[False]) == ("b", "c", "c", "c")
    shared[1.0] = "z"
    assert list(shared) == [1, 2**53, 0]
    assert type(next(iter(shared))) is int
    assert (1, "x") in store.dict({(1.0, "x"): 1})


class Foreign:
    """Hashable and equal to a key, but nothing a store can hold."""

    def __hash__(self):
        return hash("a")

    def __eq__(self, other):
        return other == "a"


def test_foreign_key(store):
    shared = store.dict(a=1)
    assert Foreign() not in shared
    assert shared.get(Foreign(), "none") == "none"
    with pytest.raises(KeyError):
        shared[Foreign()]
    with pytest.raises(shobj.NotShareableError, match="key"):
        shared[Foreign()] = 1
    with pytest.raises(shobj.NotShareableError, match="key"):
        shared.setdefault(Foreign(), 1)
    assert shared == {"a": 1}


class Loud:
    def __hash__(self):
        raise RuntimeError("no hash today")


def test_error_in_hash_passes(store):
    shared = store.dict()
    for operation in (
        lambda: shared[Loud()],
        lambda: Loud() in shared,
        lambda: shared.get(Loud()),
        lambda: shared.__setitem__(Loud(), 1),
        lambda: shared.pop(Loud(), None),
    ):
        with pytest.raises(RuntimeError, match="no hash today"):
            operation()


def test_proxy_as_key(store):
    shared = store.dict()
    for operation in (
        lambda: shared[shared],
        lambda: shared in shared,
        lambda: shared.__setitem__(shared, 1),
        lambda: shared[(1, store.list())],
    ):
        with pytest.raises(TypeError, match="unhashable"):
            operation()


def test_equality_by_value(store):
    left = store.dict(a=[1, {"b": 2}])
    right = store.dict(a=[1, {"b": 2}])
    assert left == right
    assert left == {"a": [1, {"b": 2}]}
    right["a"][1]["b"] = 3
    assert left != right
    assert {"a": left["a"]} == left


def test_repr_of_views(store):
    shared = store.dict(a=1)
    assert repr(shared.keys()) == "dict_keys(['a'])"
    assert repr(shared.values()) == "dict_values([1])"
    assert repr(shared.items()) == "dict_items([('a', 1)])"
