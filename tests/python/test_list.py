"""List beside list: the same operations on both, the same results, exceptions and contents."""

import collections.abc
import operator
import types

import pytest
import shobj
from conftest import outcome

START = [5, "b", 2.5, None, (1, 2), b"x", 5, True, "long " * 30]
NUMBERS = [5, 3, 9, 1, 7, 3, -2, 8, 0, 3]


class Index:
    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number


def fail():
    raise ZeroDivisionError


OPERATIONS = {
    "getitem": lambda x: (x[0], x[-1], x[len(x) - 1], x[-len(x)], x[Index(2)], x[True]),
    "getitem-above": lambda x: x[len(x)],
    "getitem-below": lambda x: x[-len(x) - 1],
    "getitem-huge": lambda x: x[2**70],
    "getitem-str": lambda x: x["a"],
    "getitem-float": lambda x: x[1.0],
    "getitem-none": lambda x: x[None],
    "setitem": lambda x: (x.__setitem__(0, "new"), x.__setitem__(-1, 9)),
    "setitem-above": lambda x: x.__setitem__(len(x), 1),
    "setitem-below": lambda x: x.__setitem__(-len(x) - 1, 1),
    "setitem-str": lambda x: x.__setitem__("a", 1),
    "delitem": lambda x: (x.__delitem__(0), x.__delitem__(-1), x.__delitem__(2)),
    "delitem-above": lambda x: x.__delitem__(len(x)),
    "delitem-str": lambda x: x.__delitem__("a"),
    "append": lambda x: x.append(1),
    "append-two": lambda x: x.append(1, 2),
    "extend": lambda x: x.extend([1, "z"]),
    "extend-iterator": lambda x: x.extend(iter(range(5))),
    "extend-self": lambda x: x.extend(x),
    "extend-str": lambda x: x.extend("abc"),
    "extend-dict": lambda x: x.extend({"k": 1}),
    "extend-empty": lambda x: x.extend(()),
    "extend-int": lambda x: x.extend(5),
    "extend-failing": lambda x: x.extend(1 // (i and 0) if i == 0 else fail() for i in range(1, 3)),
    "insert": lambda x: (x.insert(0, "first"), x.insert(3, "third"), x.insert(-1, "last but one")),
    "insert-clamped": lambda x: (x.insert(100, "end"), x.insert(-100, "begin"), x.insert(len(x), "at end")),
    "insert-float": lambda x: x.insert(1.0, 1),
    "insert-few": lambda x: x.insert(1),
    "pop": lambda x: (x.pop(), x.pop(0), x.pop(-2), x.pop(Index(1))),
    "pop-all": lambda x: [x.pop() for _ in range(len(x))],
    "pop-empty": lambda x: (x.clear(), x.pop()),
    "pop-above": lambda x: x.pop(100),
    "pop-str": lambda x: x.pop("a"),
    "remove": lambda x: (x.remove(5), x.remove("b")),
    "remove-missing": lambda x: x.remove("nothing"),
    "clear": lambda x: (x.clear(), len(x)),
    "index": lambda x: (x.index(5), x.index(5, 1), x.index(None), x.index(5, -5), x.index("b", 0, 3)),
    "index-missing": lambda x: x.index("nothing"),
    "index-bounds": lambda x: x.index(5, 1, 3),
    "count": lambda x: (x.count(5), x.count("nothing"), x.count(1), x.count(object())),
    "reverse": lambda x: x.reverse(),
    "sort-mixed": lambda x: x.sort(),
    "sort-key": lambda x: x.sort(key=str),
    "sort-key-reverse": lambda x: x.sort(key=str, reverse=True),
    "sort-failing-key": lambda x: x.sort(key=lambda _: fail()),
    "sort-positional": lambda x: x.sort(str),
    "sort-keyword": lambda x: x.sort(cmp=str),
    "copy": lambda x: x.copy(),
    "contains": lambda x: (5 in x, "nothing" in x, None in x, (1, 2) in x, 5.0 in x),
    "len": len,
    "bool": bool,
    "list": list,
    "tuple": tuple,
    "reversed": lambda x: list(reversed(x)),
    "length-hint": lambda x: (operator.length_hint(iter(x)), operator.length_hint(reversed(x))),
    "exhausted": lambda x: (lambda i: (len(list(i)), next(i, "end"), x.append(1), next(i, "end")))(iter(x)),
    "grow-while-iterating": lambda x: [(y, len(x) < 40 and x.append(len(x)))[0] for y in x],
    "change-ahead": lambda x: [(y, i + 1 < len(x) and x.__setitem__(i + 1, i))[0] for i, y in enumerate(x)],
    "shrink-while-iterating": lambda x: [(y, x.pop())[0] for y in x],
    "shrink-while-reversed": lambda x: [(y, x.pop())[0] for y in reversed(x)],
    "add": lambda x: x + [1, 2],
    "radd": lambda x: [1, 2] + x,
    "add-itself": lambda x: x + x,
    "add-tuple": lambda x: x + (1, 2),
    "add-int": lambda x: x + 1,
    "radd-int": lambda x: 1 + x,
    "concat": lambda x: operator.concat(x, [1]),
    "iadd": lambda x: operator.iadd(x, (1, 2)) is x,
    "iadd-int": lambda x: operator.iadd(x, 1),
    "iconcat": lambda x: operator.iconcat(x, [1]) is x,
    "mul": lambda x: (x * 2, 2 * x, x * 0, x * -1, x * True),
    "mul-float": lambda x: x * 1.5,
    "imul": lambda x: operator.imul(x, 3) is x,
    "imul-zero": lambda x: operator.imul(x, 0) is x,
    "imul-negative": lambda x: operator.imul(x, -1) is x,
    "imul-one": lambda x: operator.imul(x, 1) is x,
    "imul-str": lambda x: operator.imul(x, "a"),
    "unpack": lambda x: (lambda first, *rest: (first, rest))(*x),
    "assign-unpack": lambda x: [*x, 1],
    "eq": lambda x: (x == list(START), x == [], x != [], x == tuple(x), x == 5, x != 5),
    "eq-reflected": lambda x: (list(START) == x, x == []),
    "map": lambda x: list(map(str, x)),
    "zip": lambda x: list(zip(x, x, strict=True)),
    "slice-str": lambda x: x["a":],
    "slice-zero-step": lambda x: x[::0],
    "slice-assign-int": lambda x: x.__setitem__(slice(0, 1), 5),
    "slice-assign-int-step": lambda x: x.__setitem__(slice(None, None, 2), 5),
    "slice-assign-size": lambda x: x.__setitem__(slice(None, None, 2), [1]),
    "slice-assign-size-back": lambda x: x.__setitem__(slice(None, None, -1), [1]),
    "slice-assign-self": lambda x: x.__setitem__(slice(2, 3), x),
    "slice-assign-iterator": lambda x: x.__setitem__(slice(2, 3), iter("abc")),
    "slice-assign-failing": lambda x: x.__setitem__(slice(2, 3), (fail() for _ in "a")),
    "slice-assign-dict": lambda x: x.__setitem__(slice(1, 1), {"k": 1}),
}

SLICES = [
    slice(*bounds, step)
    for bounds in [(None, None), (2, 5), (5, 2), (-3, None), (None, -3), (-100, 100), (4, 4), (100, None), (0, 1)]
    for step in (None, 2, -1, -2, 7)
]


def compare(operation, native, shared):
    expected, found = outcome(lambda: operation(native)), outcome(lambda: operation(shared))
    if expected[0] == "error":
        assert found[:2] == expected[:2]
    else:
        assert found == expected
    assert list(shared) == native
    assert len(shared) == len(native)


@pytest.mark.parametrize("name", OPERATIONS)
def test_like_list(store, name):
    compare(OPERATIONS[name], list(START), store.list(START))


@pytest.mark.parametrize("cut", SLICES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 9, 200])
def test_slices(store, cut, size):
    def native():
        return [i * 3 for i in range(size)]

    def shared():
        return store.list(native())

    compare(lambda x: x[cut], native(), shared())
    compare(lambda x: x.__delitem__(cut), native(), shared())
    for values in ([], ["n"], list("abcde")):
        compare(lambda x, values=values: x.__setitem__(cut, values), native(), shared())
    exact = len(native()[cut])
    compare(lambda x: x.__setitem__(cut, range(1000, 1000 + exact)), native(), shared())


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("key", [None, abs, lambda x: -x, lambda x: x % 3])
def test_sort(store, key, reverse):
    compare(lambda x: x.sort(key=key, reverse=reverse), NUMBERS * 10, store.list(NUMBERS * 10))


@pytest.mark.parametrize("right", [NUMBERS, [5, 3], [5, 4], [], [6], NUMBERS + [1]])
def test_order(store, right):
    shared, shared_right = store.list(NUMBERS), store.list(right)
    for compare_by in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        expected = compare_by(NUMBERS, right)
        assert compare_by(shared, right) is expected
        assert compare_by(NUMBERS, shared_right) is expected
        assert compare_by(shared, shared_right) is expected
    with pytest.raises(TypeError):
        shared < 5  # noqa: B015
    with pytest.raises(TypeError):
        shared < (5,)  # noqa: B015


def test_sort_of_a_list_changed_by_its_key(store):
    shared = store.list([3, 1, 2])
    with pytest.raises(ValueError, match="modified during sort"):
        shared.sort(key=lambda x: shared.append(0) or x)
    assert shared == [3, 1, 2]


def test_sort_of_proxies(store):
    shared = store.list([{"n": n} for n in NUMBERS])
    first = shared[0]
    shared.sort(key=lambda d: d["n"])
    assert [d["n"] for d in shared] == sorted(NUMBERS)
    assert any(d is first for d in shared)
    with pytest.raises(TypeError):
        shared.sort()
    lists = store.list([[2], [1, 5], [1]])
    lists.sort()
    assert lists == [[1], [1, 5], [2]]


def test_failures_leave_no_trace(store):
    shared = store.list([1, 2, 3])
    for operation in (
        lambda: shared.append(object()),
        lambda: shared.extend([4, 5, object()]),
        lambda: shared.__setitem__(slice(0, 2), [7, object()]),
        lambda: shared.insert(0, [object()]),
        lambda: shared.__setitem__(0, {"k": object()}),
        lambda: operator.iadd(shared, [print]),
    ):
        with pytest.raises(shobj.NotShareableError):
            operation()
        assert shared == [1, 2, 3]


def test_unhashable(store):
    with pytest.raises(TypeError, match="unhashable"):
        hash(store.list())


def test_not_made_directly():
    with pytest.raises(TypeError):
        shobj.List([1])


def test_abstract_classes(store):
    assert isinstance(store.list(), collections.abc.MutableSequence)
    assert not isinstance(store.list(), collections.abc.Hashable)
    assert shobj.List[int] == types.GenericAlias(shobj.List, (int,))


def test_match(store):
    match store.list([1, [2, 3], 4]):
        case [first, [*inner], *rest]:
            assert (first, inner, rest) == (1, [2, 3], [4])
        case _:
            pytest.fail("a List is no sequence")


def test_large(store):
    native = list(range(20000))
    shared = store.list(native)
    assert shared == native
    assert shared[19999] == 19999
    assert shared[5:19000:171] == native[5:19000:171]
    del shared[100:15000], native[100:15000]
    shared[50:60] = native[50:60] = [str(i) for i in range(500)]
    for i in range(0, 3000, 7):
        shared.insert(i, "x")
        native.insert(i, "x")
    for i in range(0, 2000, 5):
        assert shared.pop(i) == native.pop(i)
    assert list(shared) == native
    assert list(reversed(shared)) == native[::-1]
    shared.reverse()
    native.reverse()
    assert shared == native


def test_extend_from_shared(store):
    left, right = store.list([1]), store.list([[2], 3])
    left.extend(right)
    assert left == [1, [2], 3]
    assert left[1] is right[0]
    left[0:1] = right
    assert left == [[2], 3, [2], 3]
    left[::2] = store.list("ab")
    assert left == ["a", 3, "b", 3]


def test_equality_by_value(store):
    left, right = store.list([1, {"a": [2]}]), store.list([1, {"a": [2]}])
    assert left == right
    assert left == [1, {"a": [2]}]
    right[1]["a"].append(3)
    assert left != right


class Equal:
    def __eq__(self, other):
        return other == 3


def test_foreign_equality(store):
    shared = store.list([1, 3, 5, 3])
    assert Equal() in shared
    assert shared.index(Equal()) == 1
    assert shared.count(Equal()) == 2
    shared.remove(Equal())
    assert shared == [1, 5, Equal()]


def test_nested_changes_stick(store):
    store.root["a"] = {"b": [[1], {"c": []}]}
    store.root["a"]["b"][1]["c"].append("deep")
    store.root["a"]["b"][0] += [2]
    assert store.root == {"a": {"b": [[1, 2], {"c": ["deep"]}]}}
