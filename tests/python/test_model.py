"""Random sequences of operations on a Dict and a List, beside a dict and a list."""

import shobj
from conftest import fresh_path, outcome
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**80), max_value=2**80),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.text(alphabet="ab\ud800é", max_size=3),
    st.binary(max_size=8),
    st.complex_numbers(allow_nan=False),
)
hashables = st.recursive(
    scalars, lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)), max_leaves=4
)
# Few different ones, so that operations meet.
keys = st.one_of(st.integers(0, 12), st.sampled_from(["", "a", "b", "é", 1.0, True, None, b"", (1, "x")]), hashables)
values = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4), st.tuples(inner, inner)
    ),
    max_leaves=8,
)
bounds = st.one_of(st.none(), st.integers(-12, 12))
slices = st.builds(slice, bounds, bounds, st.one_of(st.none(), st.sampled_from([-3, -2, -1, 1, 2, 5])))
positions = st.integers(-12, 12)


class Machine(RuleBasedStateMachine):
    def make(self, native):
        self.path = fresh_path()
        self.store = shobj.open_store(self.path, "x", max_size=64 << 20)
        self.native = native
        self.store.root["it"] = native
        self.shared = self.store.root["it"]

    def both(self, operation):
        expected, found = outcome(lambda: operation(self.native)), outcome(lambda: operation(self.shared))
        assert found[0] == expected[0], (expected, found)
        assert found[1] == expected[1], (expected, found)

    @invariant()
    def same_contents(self):
        assert self.shared == self.native
        assert len(self.shared) == len(self.native)
        assert shobj.to_native(self.shared) == self.native

    @rule(value=values)
    def undone(self, value):
        with self.store.transaction() as transaction:
            self.change_somehow(value)
            transaction.abort()

    def teardown(self):
        assert self.store.check() == []
        self.store.close()
        shobj.unlink(self.path)


class DictMachine(Machine):
    def __init__(self):
        super().__init__()
        self.make({})

    def change_somehow(self, value):
        self.shared["undone"] = value
        if len(self.shared) > 1:
            self.shared.pop(next(iter(self.shared)))
        self.shared.update({1: value, "more": [value]})

    @invariant()
    def same_order(self):
        assert list(self.shared) == list(self.native)
        assert list(reversed(self.shared)) == list(reversed(self.native))

    @rule(key=keys, value=values)
    def set(self, key, value):
        self.both(lambda d: d.__setitem__(key, value))

    @rule(key=keys)
    def get(self, key):
        self.both(lambda d: (d.get(key), key in d))
        self.both(lambda d: d[key])

    @rule(key=keys)
    def delete(self, key):
        self.both(lambda d: d.__delitem__(key))

    @rule(key=keys, value=values)
    def setdefault(self, key, value):
        self.both(lambda d: d.setdefault(key, value))

    @rule(key=keys, default=values)
    def pop(self, key, default):
        self.both(lambda d: d.pop(key))
        self.both(lambda d: d.pop(key, default))

    @rule()
    def popitem(self):
        self.both(lambda d: d.popitem())

    @rule(more=st.dictionaries(keys, values, max_size=6))
    def update(self, more):
        self.both(lambda d: d.update(more))
        self.both(lambda d: d | more)

    @rule(others=st.sets(hashables, max_size=4))
    def algebra(self, others):
        self.both(lambda d: (d.keys() & others, d.keys() | others, d.keys() - others, d.keys() ^ others))

    @precondition(lambda self: len(self.native) > 20)
    @rule()
    def clear(self):
        self.both(lambda d: d.clear())


class ListMachine(Machine):
    def __init__(self):
        super().__init__()
        self.make([])

    def change_somehow(self, value):
        self.shared.append(value)
        self.shared[0] = [value]
        self.shared *= 2
        del self.shared[::3]
        self.shared.insert(1, {"v": value})

    @rule(value=values)
    def append(self, value):
        self.both(lambda x: x.append(value))

    @rule(index=positions, value=values)
    def insert(self, index, value):
        self.both(lambda x: x.insert(index, value))

    @rule(index=positions)
    def get(self, index):
        self.both(lambda x: x[index])

    @rule(index=positions, value=values)
    def set(self, index, value):
        self.both(lambda x: x.__setitem__(index, value))

    @rule(index=positions)
    def delete(self, index):
        self.both(lambda x: x.__delitem__(index))

    @rule(index=positions)
    def pop(self, index):
        self.both(lambda x: x.pop(index))

    @rule(cut=slices)
    def slice_get(self, cut):
        self.both(lambda x: x[cut])

    @rule(cut=slices, more=st.lists(values, max_size=5))
    def slice_set(self, cut, more):
        self.both(lambda x: x.__setitem__(cut, more))

    @rule(cut=slices)
    def slice_delete(self, cut):
        self.both(lambda x: x.__delitem__(cut))

    @rule(more=st.lists(values, max_size=40))
    def extend(self, more):
        self.both(lambda x: x.extend(more))

    @rule(value=values)
    def find(self, value):
        self.both(lambda x: (value in x, x.count(value)))
        self.both(lambda x: x.index(value))
        self.both(lambda x: x.remove(value))

    @rule(reverse=st.booleans())
    def sort(self, reverse):
        # The order inside the repr of a frozenset may differ, not its length.
        self.both(lambda x: x.sort(key=lambda value: len(repr(value)), reverse=reverse))

    @rule()
    def reverse(self):
        self.both(lambda x: x.reverse())

    @precondition(lambda self: len(self.native) < 60)
    @rule(times=st.integers(-1, 3))
    def repeat(self, times):
        self.both(lambda x: x * times)
        self.both(lambda x: x.__imul__(times) is x)

    @precondition(lambda self: len(self.native) > 150)
    @rule()
    def clear(self):
        self.both(lambda x: x.clear())


TestDictModel = DictMachine.TestCase
TestListModel = ListMachine.TestCase
TestDictModel.settings = TestListModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
