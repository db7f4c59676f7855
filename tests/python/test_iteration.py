"""Iterating while the contents change: bounded, without repeats, and up to date with the program's own changes."""

import gc
import threading
import weakref

import pytest
import shobj


def test_ends_although_the_dict_grows(store):
    for size in (1, 7, 8, 9, 31, 32, 33, 100, 1000):
        shared = store.dict({i: i for i in range(size)})
        seen = []
        for key in shared:
            shared[key + 10_000] = key
            seen.append(key)
        assert seen == list(range(size))
        assert len(shared) == 2 * size


def test_no_repeats_although_keys_come_again(store):
    shared = store.dict({i: i for i in range(100)})
    seen = []
    for key in shared:
        seen.append(key)
        first = next(iter(shared))
        shared[first] = shared.pop(first)
    assert len(seen) == len(set(seen))
    assert set(seen) <= set(range(100))


def test_deleted_ahead_is_not_given(store):
    for size in (5, 40, 500):
        shared = store.dict({i: i for i in range(size)})
        seen = []
        for key in shared:
            seen.append(key)
            shared.pop(key + 1, None)
        assert seen == list(range(0, size, 2))


def test_changed_ahead_is_fresh(store):
    shared = store.dict({i: 0 for i in range(60)})
    for key, value in shared.items():
        assert value == key
        shared[key + 1] = key + 1
    assert len(shared) == 61


def test_deleting_what_was_given(store):
    shared = store.dict({i: i for i in range(500)})
    for key in shared:
        del shared[key]
    assert shared == {}
    shared.update({i: i for i in range(500)})
    for key in reversed(shared):
        del shared[key]
    assert shared == {}


def test_clearing(store):
    for make, fill in ((store.dict, {i: i for i in range(90)}), (store.list, range(90))):
        shared = make(fill)
        seen = []
        for item in shared:
            seen.append(item)
            if len(seen) == 3:
                shared.clear()
        assert seen == [0, 1, 2]


def test_undone_changes_are_not_given(store):
    for start in ({i: 0 for i in range(20)}, [0] * 20):
        shared = store.dict(start) if isinstance(start, dict) else store.list(start)
        given = iter(shared.values() if isinstance(start, dict) else shared)
        with store.transaction() as transaction:
            for i in range(20):
                shared[i] = 1
            assert next(given) == 1
            transaction.abort()
        assert list(given) == [0] * 19


def test_others_changes_come_in(store):
    """Another thread's changes through the same proxy are seen as well."""
    shared = store.list(range(20))
    given = iter(shared)
    assert next(given) == 0
    thread = threading.Thread(target=lambda: shared.__setitem__(1, "changed"))
    thread.start()
    thread.join()
    assert next(given) == "changed"


def test_inside_a_transaction_it_is_exact(store):
    shared = store.dict({i: i for i in range(300)})
    with store.transaction():
        shared["own"] = 1
        del shared[5]
        assert list(shared) == [i for i in range(300) if i != 5] + ["own"]
        assert sum(1 for _ in shared.items()) == 300


def test_views_are_live(store):
    shared = store.dict(a=1)
    keys, items, values = shared.keys(), shared.items(), shared.values()
    shared["b"] = 2
    assert list(keys) == ["a", "b"]
    assert list(items) == [("a", 1), ("b", 2)]
    assert list(values) == [1, 2]
    assert len(keys) == len(items) == len(values) == 2


def test_values_that_are_containers(store):
    shared = store.dict({i: [i] for i in range(100)})
    for key, value in shared.items():
        value.append(key)
    assert shared == {i: [i, i] for i in range(100)}
    assert [v for values in shared.values() for v in values][:4] == [0, 0, 1, 1]
    with pytest.raises(TypeError, match="unhashable"):
        shared.items() | set()
    assert (0, [0, 0]) in shared.items()


def test_dropped_in_the_middle(store):
    shared = store.dict({i: [i] for i in range(100)})
    proxies = [weakref.ref(value) for _, value in zip(range(50), shared.values(), strict=False)]
    gc.collect()
    assert all(proxy() is None for proxy in proxies)


class Walker:
    """In a cycle with an iterator, so that only the collector frees it."""


def test_cycle_through_an_iterator_is_collected(store):
    for shared in (store.dict({i: [i] for i in range(50)}), store.list([[i] for i in range(50)])):
        walker = Walker()
        walker.iterator = (walker, it) = [walker, iter(shared)]
        next(it)
        gone = weakref.ref(walker)
        function = store.atomic(lambda walker=walker: walker)
        walker.function = function
        del walker, it, function
        gc.collect()
        assert gone() is None


class Finalized:
    """Uses the store while the collector runs."""

    def __init__(self, shared):
        self.me = self
        self.shared = shared

    def __del__(self):
        Finalized.count += 1
        for i in range(40):
            assert self.shared[f"key {i}"] == ("value", (i, "x" * 50))
        assert list(self.shared.values())[3] == ("value", (3, "x" * 50))


def test_collector_in_the_middle_of_reading(store):
    """What a finalizer reads must not disturb what is being built when the collector starts."""
    Finalized.count = 0
    shared = store.dict({f"key {i}": ("value", (i, "x" * 50)) for i in range(40)})
    other = store.list([(f"a {i}", (i, [i])) for i in range(100)])
    old = gc.get_threshold()
    gc.set_threshold(5, 1, 1)
    try:
        for _ in range(60):
            Finalized(shared)
            assert list(other) == [(f"a {i}", (i, [i])) for i in range(100)]
            assert shared.popitem() == ("key 39", ("value", (39, "x" * 50)))
            shared["key 39"] = ("value", (39, "x" * 50))
            assert other[:] == shobj.to_native(other)
            assert shared == {f"key {i}": ("value", (i, "x" * 50)) for i in range(40)}
    finally:
        gc.set_threshold(*old)
    gc.collect()
    assert Finalized.count == 60
