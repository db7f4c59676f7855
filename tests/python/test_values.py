"""What is stored comes back: every type of value, containers with sharing and cycles, and what can't be stored."""

import collections
import copy
import decimal
import enum
import json
import math
import struct
import sys

import pytest
import shobj
from hypothesis import given
from hypothesis import strategies as st
from test_model import values

EXACT = [
    None, True, False, 0, 1, -1, 255, 256, -6, 2**47 - 1, 2**47, -(2**47), -(2**47) - 1, 2**53, 2**62, 2**63 - 1,
    2**63, -(2**63), -(2**63) - 1, 2**64, 2**64 - 1, -(2**64), 10**100, -(10**100), 2**5000, 0.0, -0.0, 1.5, -1e308,
    5e-324, math.inf, -math.inf, 1j, -0.0 + 3j, complex(0.0, -0.0), complex(math.inf, -1), "", "a", "ab", "abcde",
    "abcdef", "é", "日本語", "\U0001f600", "\0", "a\0b", "\ud800", "x\udfffy", "\x7f\x80\xff", "z" * 100000, "é" *
    70000, b"", b"a", b"abcdef", b"\0", b"a\0\0", b"\xff" * 100000, (), (1,), ((), ((),)), (1, "a", b"b", None, 2.5,
    2**80), frozenset(), frozenset({1, "a", (2, b"c"), frozenset({3})}), ("x" * 1000,) * 50,
]  # fmt: skip


def same(left, right):
    """Equal, of the same type, to the last bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.mark.parametrize("value", EXACT, ids=lambda v: f"{type(v).__name__}-{str(v)[:12]!a}" if v == v else "nan")
def test_exact(store, value):
    root = store.root
    root["v"] = value
    assert same(root["v"], value)
    root["list"] = [value, value]
    assert same(root["list"][1], value)
    root["list"].append(value)
    assert same(root["list"].pop(), value)
    root["tuple"] = (value, (value,))
    assert same(root["tuple"], (value, (value,)))
    assert same(root.setdefault("v2", value), value)
    assert same(next(iter(root["list"])), value)
    assert same(store.dict({value: 1}).popitem()[0], value)
    root["v"] = 1
    root["v"] = value
    assert same(root["v"], value)


@pytest.mark.parametrize(
    "bits", [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8DEADBEEF1234, 0xFFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF]
)
def test_nan_keeps_its_bits(root, bits):
    nan = struct.unpack("d", struct.pack("Q", bits))[0]
    root["nan"] = nan
    root["t"] = (nan, [nan])
    for back in (root["nan"], root["t"][0], root["t"][1][0]):
        assert struct.unpack("Q", struct.pack("d", back))[0] == bits


@given(value=values)
def test_any(root, value):
    root["v"] = value
    assert root["v"] == value
    assert shobj.to_native(root["v"]) == value


@given(number=st.integers(min_value=-(2**300), max_value=2**300))
def test_any_int(root, number):
    root["n"] = number
    assert root["n"] == number


@given(text=st.text(alphabet=st.characters(codec=None), max_size=200))
def test_any_str(root, text):
    root["s"] = text
    assert root["s"] == text
    root[text] = 1
    assert text in root


class Number(enum.IntEnum):
    ONE = 1


class Name(enum.StrEnum):
    A = "a"


class Real(float):
    pass


class Raw(bytes):
    pass


Point = collections.namedtuple("Point", "x y")


def test_subclasses_are_stored_as_their_base(store):
    ordered = collections.OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    shared = store.list(
        [Number.ONE, Name.A, Real(1.5), Raw(b"x"), Point(1, [2]), ordered, collections.defaultdict(list, k=1)]
    )
    assert shared == [1, "a", 1.5, b"x", (1, [2]), {"b": 2, "a": 1}, {"k": 1}]
    assert [type(v) for v in shared] == [int, str, float, bytes, tuple, shobj.Dict, shobj.Dict]
    assert list(shared[5]) == ["b", "a"]
    shared[0] = collections.Counter("aab")
    assert shared[0] == {"a": 2, "b": 1}
    assert store.dict({Name.A: Number.ONE})["a"] == 1


# ------------------------------------------------------------------------------------------------ containers


def test_converted_deeply(root):
    inner = [1, {"b": [2]}]
    root["a"] = inner
    inner.append("not seen")
    assert root["a"] == [1, {"b": [2]}]
    assert isinstance(root["a"], shobj.List)
    assert isinstance(root["a"][1], shobj.Dict)
    assert isinstance(root["a"][1]["b"], shobj.List)


def test_sharing_is_kept(root):
    common = [1]
    root["v"] = {"x": common, "y": [common, (common,)], "z": (common, common)}
    v = root["v"]
    assert v["x"] is v["y"][0] is v["y"][1][0] is v["z"][0] is v["z"][1]
    native = shobj.to_native(v)
    assert native["x"] is native["y"][0] is native["y"][1][0] is native["z"][0]
    assert type(native["x"]) is list


def test_cycles_are_kept(root):
    ring = [1, {}]
    ring[1]["up"] = ring
    ring[1]["me"] = ring[1]
    ring.append((ring, [ring]))
    root["ring"] = ring
    shared = root["ring"]
    assert shared[1]["up"] is shared
    assert shared[1]["me"] is shared[1]
    assert shared[2][0] is shared
    assert shared[2][1][0] is shared
    native = shobj.to_native(shared)
    assert native[1]["up"] is native
    assert native[1]["me"] is native[1]
    assert native[2][1][0] is native
    again = root["again"] = native
    root["again"] = again
    assert root["again"][1]["up"] is root["again"]


def test_cycle_through_a_tuple(root):
    inner = []
    around = (inner, 1)
    inner.append(around)
    root["t"] = around
    assert root["t"][0][0][0] is root["t"][0]


def test_proxies_are_stored_by_reference(store):
    root = store.root
    root["a"] = [1]
    root["b"] = root["a"]
    root["c"] = {"t": (root["a"],), "l": [root["a"]]}
    assert root["b"] is root["a"] is root["c"]["t"][0] is root["c"]["l"][0]
    root["a"].append(2)
    assert root["b"] == [1, 2]
    root["self"] = root
    assert root["self"]["self"] is root


def test_proxies_of_another_store_are_copied(store, tmp_path):
    with shobj.open_store(tmp_path / "other", "n") as other:
        other.root["x"] = shared = other.list([1, {"k": [2]}])
        shared.append(shared)
        store.root["copy"] = {"one": shared, "two": [shared], "own": store.root}
        copied = store.root["copy"]
        assert copied["one"][:2] == [1, {"k": [2]}]
        assert copied["one"][2] is copied["one"] is copied["two"][0]
        assert copied["own"] is store.root
        shared[1]["k"].append(3)
        assert copied["one"][1] == {"k": [2]}
        assert other.root["x"] != copied["one"]
        assert store.list(other.list([1, 2])) == other.list([1, 2])
        store.root["d"] = {}
        store.root["d"].update(other.dict(a=[1]))
        assert store.root["d"] == {"a": [1]}


def test_deep_nesting(root):
    deep = None
    for _ in range(300):
        deep = [deep]
    root["deep"] = deep
    assert shobj.to_native(root["deep"]) == deep
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        root["deeper"] = deep
    assert list(root) == ["deep"]
    while deep:
        deep = deep[0]  # destroyed level by level


# ------------------------------------------------------------------------------------------------ what can't be stored


class Thing:
    def __hash__(self):
        return 7


UNSHAREABLE = [
    (object(), "value is a 'object'"),
    (print, "value is a 'builtin_function_or_method'"),
    ({1, 2}, "value is a 'set'"),
    (bytearray(b"x"), "value is a 'bytearray'"),
    (decimal.Decimal(1), "value is a 'decimal.Decimal'"),
    (range(3), "value is a 'range'"),
    ([1, {"a": [1, 2, 3, object()]}], "value[1]['a'][3] is a 'object'"),
    ({"a": {"b": (1, (2, Thing()))}}, "value['a']['b'][1][1] is a 'Thing'"),
    ({"a": {Thing(): 1}}, "value['a'].keys() is a 'Thing'"),
    ({("x", Thing()): 1}, "value.keys()[1] is a 'Thing'"),
    ((1, frozenset({Thing()})), "value[1]{...} is a 'Thing'"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "where"), UNSHAREABLE, ids=[where for _, where in UNSHAREABLE])
def test_not_shareable_names_the_place(store, value, where):
    store.root["before"] = 1
    before = store.stat()["objects"]
    with pytest.raises(shobj.NotShareableError) as caught:
        store.root["v"] = value
    assert where in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert store.root == {"before": 1}
    assert store.stat()["objects"] == before


class Spoiler(dict):
    """Changes another container while it is being stored."""

    def __init__(self, other):
        super().__init__(a=1)
        self.other = other

    def items(self):
        self.other.clear()
        return super().items()


def test_changing_while_being_stored(root):
    for container in ([1, None, 3], {"x": 1, "y": None, "z": 3}):
        spoiler = Spoiler(container)
        container[1 if isinstance(container, list) else "y"] = spoiler
        with pytest.raises(RuntimeError, match="changed size"):
            root["v"] = container
        assert "v" not in root


class Failing(dict):
    def items(self):
        raise ZeroDivisionError


def test_error_in_a_subclass_passes(root):
    with pytest.raises(ZeroDivisionError):
        root["v"] = [1, Failing(a=1)]
    assert len(root) == 0


# ------------------------------------------------------------------------------------------------ to native


def test_to_native(store):
    shared = store.dict(a=[1, {"b": (2, [3])}])
    native = shobj.to_native(shared)
    assert native == {"a": [1, {"b": (2, [3])}]}
    assert (type(native), type(native["a"]), type(native["a"][1]["b"][1])) == (dict, list, list)
    assert copy.deepcopy(shared) == native
    assert type(copy.deepcopy(shared)["a"]) is list
    assert type(copy.copy(shared)) is dict
    assert copy.copy(shared)["a"] is shared["a"]
    assert copy.copy(shared["a"])[1] is shared["a"][1]
    mixed = [shared, {"x": shared["a"]}, (shared,)]
    native = shobj.to_native(mixed)
    assert native[0]["a"] is native[1]["x"]
    assert native[2][0] is native[0]
    assert type(native[0]) is dict
    assert mixed[0] is shared
    for value in (None, 1, "x", b"y", 2.5, (1, 2), frozenset({1})):
        assert shobj.to_native(value) == value
    for value in (object(), print, store, shared.keys()):
        with pytest.raises(TypeError, match="to_native"):
            shobj.to_native(value)


def test_json(store):
    data = {"name": "x", "list": [1, 2.5, None, {"deep": [True]}]}
    assert json.dumps(store.dict(data), default=shobj.to_native) == json.dumps(data)
    mixed = {"in": [store.list([1, {"k": 2}])]}
    assert json.loads(json.dumps(mixed, default=shobj.to_native)) == {"in": [[1, {"k": 2}]]}


# ------------------------------------------------------------------------------------------------ identity and text


def test_one_proxy_per_object(store):
    root = store.root
    root["l"] = [1]
    shared = root["l"]
    assert shared is root["l"] is root.get("l") is store.get(shared.oid) is next(iter(root.values()))
    assert store.get(f"{shared.oid:016x}") is shared
    assert store.root is root
    many = [store.list([i]) for i in range(3000)]
    oids = [x.oid for x in many]
    assert len(set(oids)) == 3000
    assert all(store.get(oid) is x for oid, x in zip(oids, many, strict=True))
    del many[::2]
    assert all(store.get(oid) is x for oid, x in zip(oids[1::2], many, strict=True))
    assert [store.get(oid)[0] for oid in oids[::2]] == list(range(0, 3000, 2))


def test_get_by_bad_id(store):
    with pytest.raises(shobj.StaleObjectError):
        store.get(12345)
    for bad in ("xyz", "", -1, 2**64, 1.5, None):
        with pytest.raises((ValueError, TypeError, OverflowError, shobj.StaleObjectError)):
            store.get(bad)


def test_repr(store):
    data = {"a": [1, "x", {"b": (2, [3])}], 2: b"c", None: 1.5}
    shared = store.dict(data)
    assert repr(shared) == str(shared) == repr(data)
    assert repr(store.list()) == "[]"
    assert repr(store.dict()) == "{}"
    shared["me"] = shared
    shared["a"].append(shared["a"])
    shared["t"] = (shared,)
    data["me"] = data
    data["a"].append(data["a"])
    data["t"] = (data,)
    assert repr(shared) == repr(data)


def test_repr_is_bounded(store):
    text = repr(store.list(range(100_000)))
    assert text.startswith("[0, 1, 2, ")
    assert text.endswith(", ...]")
    assert len(text) < 10_000
    text = repr(store.list([list(range(100)) for _ in range(1000)]))
    assert len(text) < 20_000
    deep = []
    for _ in range(200):
        deep = [deep]
    assert repr(store.list(deep)).count("[") < 60
    assert len(repr(store.dict({i: i for i in range(100_000)}))) < 20_000


def test_repr_of_closed_and_gone(path):
    store = shobj.open_store(path, "n")
    root = store.root
    store.close()
    assert "closed" in repr(root)
    assert path in repr(root)


def test_sizes_of_int_digits(root):
    root["n"] = 10**5000
    with pytest.raises(ValueError, match="digits"):
        repr(root)
    assert root["n"] == 10**5000
    assert sys.get_int_max_str_digits() == 4300
