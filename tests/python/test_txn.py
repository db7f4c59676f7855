"""Transactions: all or nothing, alone or again, nested, and what is not allowed."""

import asyncio
import gc
import inspect
import pickle
import threading
import time
import warnings

import pytest
import shobj
from conftest import wait_for


class Other:
    """Another thread, that does what it is told and waits for it to be done."""

    def __enter__(self):
        self.work, self.done = [], threading.Semaphore(0)
        self.wake, self.error = threading.Semaphore(0), None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        while self.wake.acquire() and self.work:
            try:
                self.work.pop()()
            except BaseException as error:
                self.error = error
            self.done.release()

    def do(self, function):
        self.work.append(function)
        self.wake.release()
        assert self.done.acquire(timeout=30)
        if self.error:
            raise self.error

    def __exit__(self, *exception):
        self.wake.release()
        self.thread.join()


@pytest.fixture
def other():
    with Other() as thread:
        yield thread


# ------------------------------------------------------------------------------------------------ atomic


def test_atomic(store):
    root = store.root

    @store.atomic
    def add(key, n=1, *more, **named):
        """Adds."""
        root[key] = root.get(key, 0) + n
        return root[key], more, named

    assert add("a") == (1, (), {})
    assert add("a", 5, 6, 7, x=8) == (6, (6, 7), {"x": 8})
    assert add(key="a", n=2) == (8, (), {})
    assert root == {"a": 8}
    assert (add.__name__, add.__doc__, add.__module__) == ("add", "Adds.", __name__)
    assert add.__qualname__.endswith("test_atomic.<locals>.add")
    assert str(inspect.signature(add)) == "(key, n=1, *more, **named)"
    assert add.__wrapped__("a") == (9, (), {})
    assert "add" in repr(add)
    add.note = "kept"
    assert add.note == "kept"
    with pytest.raises(TypeError):
        add()


def test_atomic_method(store):
    class Account:
        def __init__(self, balance):
            self.state = store.dict(balance=balance)

        @store.atomic
        def deposit(self, n):
            self.state["balance"] += n
            return self

        @classmethod
        @store.atomic
        def of_class(cls):
            return cls

        @staticmethod
        @store.atomic
        def static(n):
            return n

        @property
        @store.atomic
        def balance(self):
            return self.state["balance"]

    account = Account(5)
    assert account.deposit(3) is account
    assert account.balance == 8
    assert Account.of_class() is Account
    assert account.static(4) == 4
    bound = account.deposit
    bound(1)
    assert Account.deposit(account, 1) is account
    assert account.balance == 10


def test_exception_undoes_and_goes_through(store):
    root = store.root
    root["l"] = [1]

    @store.atomic
    def spoil():
        root["a"] = 1
        root["l"].append(2)
        del root["l"][0]
        root["new"] = {"x": []}
        raise ZeroDivisionError("so")

    for function in (spoil, lambda: store.run(spoil.__wrapped__)):
        with pytest.raises(ZeroDivisionError, match="so"):
            function()
        assert root == {"l": [1]}


def test_base_exceptions_go_through(store):
    def leave():
        store.root["a"] = 1
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        store.run(leave)
    assert store.root == {}


def test_run(store):
    assert store.run(lambda *args, **named: (args, named), 1, 2, x=3) == ((1, 2), {"x": 3})
    for bad in ((), (5,), ("text",)):
        with pytest.raises(TypeError):
            store.run(*bad)


def test_retries_until_it_commits(store, other):
    root = store.root
    root["n"] = 0
    seen = []

    @store.atomic
    def add():
        seen.append(root["n"])
        if len(seen) <= 3:
            other.do(lambda: root.__setitem__("n", root["n"] + 10))
        root["n"] = seen[-1] + 1

    add()
    assert seen == [0, 10, 20, 30]
    assert root["n"] == 31


def test_exception_of_a_lost_attempt_is_not_believed(store, other):
    root = store.root
    root["a"] = root["b"] = 0
    attempts = []

    @store.atomic
    def check():
        attempts.append(1)
        a = root["a"]
        if len(attempts) == 1:
            other.do(lambda: store.run(lambda: (root.__setitem__("a", 5), root.__setitem__("b", 5))))
        try:
            b = root["b"]
        except shobj.ConflictError:
            raise ZeroDivisionError from None
        assert a == b
        root["c"] = a

    check()
    assert root["c"] == root["a"] == 5


def test_swallowing_a_conflict_does_not_commit(store, other):
    root = store.root
    root.update(a=0, b=0)
    attempts = []

    @store.atomic
    def body():
        attempts.append(1)
        root["c"] = root["a"]
        if len(attempts) == 1:
            other.do(lambda: store.run(lambda: (root.__setitem__("a", 5), root.__setitem__("b", 5))))
        try:
            root["d"] = root["b"]
        except Exception:
            pass

    body()
    assert len(attempts) == 2
    assert root == {"a": 5, "b": 5, "c": 5, "d": 5}


def test_tries(store, other):
    root = store.root
    root["n"] = 0
    attempts = []

    def lose():
        attempts.append(root["n"])
        other.do(lambda: root.__setitem__("n", root["n"] + 1))
        root["n"] = -1

    with pytest.raises(shobj.ConflictError, match="3 attempt"):
        store.atomic(tries=3)(lose)()
    assert len(attempts) == 3
    assert root["n"] == 3
    with pytest.raises(shobj.ConflictError):
        store.atomic(lose, tries=1)()
    assert len(attempts) == 4
    with pytest.raises(shobj.ConflictError):
        for attempt in store.attempts(tries=2):
            with attempt:
                lose()
    assert len(attempts) == 6


def test_timeout(store, other):
    root = store.root
    root["n"] = 0

    def lose():
        root["x"] = root["n"]
        other.do(lambda: root.__setitem__("n", root["n"] + 1))
        time.sleep(0.01)

    with pytest.raises(shobj.TransactionTimeout) as caught:
        store.atomic(timeout=0.05)(lose)()
    assert isinstance(caught.value, TimeoutError)
    assert root["n"] >= 2
    with pytest.raises(shobj.TransactionTimeout):
        store.atomic(timeout=0)(lose)()
    with pytest.raises(shobj.TransactionTimeout):
        for attempt in store.attempts(timeout=0.03):
            with attempt:
                lose()
    assert "x" not in root


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"tries": 0}, ValueError),
        ({"tries": -1}, ValueError),
        ({"tries": "x"}, TypeError),
        ({"tries": 1.5}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "x"}, TypeError),
        ({"other": 1}, TypeError),
    ],
)
def test_bad_limits(store, limits, error):
    with pytest.raises(error):
        store.atomic(**limits)(len)
    with pytest.raises(error):
        store.attempts(**limits)


def test_only_plain_functions(store):
    def generator():
        yield

    async def coroutine():
        pass

    async def both():
        yield

    for function in (generator, coroutine, both):
        with pytest.raises(TypeError, match="plain function"):
            store.atomic(function)
        with pytest.raises(TypeError, match="plain function"):
            store.run(function)
    with pytest.raises(TypeError):
        store.atomic(5)


# ------------------------------------------------------------------------------------------------ nesting


def test_nested(store):
    root = store.root

    @store.atomic
    def inner(fail):
        root["inner"] = root.get("inner", 0) + 1
        if fail:
            raise ZeroDivisionError

    @store.atomic
    def outer(fail):
        root["outer"] = 1
        inner(False)
        with pytest.raises(ZeroDivisionError):
            inner(True)
        with store.transaction() as transaction:
            root["block"] = 1
            transaction.abort()
        with pytest.raises(ZeroDivisionError), store.transaction():
            root["block"] = 1
            root["inner"] = 77
            raise ZeroDivisionError
        for attempt in store.attempts():
            with attempt:
                root["loop"] = 1
        assert root == {"outer": 1, "inner": 1, "loop": 1}
        if fail:
            raise KeyError

    with pytest.raises(KeyError):
        outer(True)
    assert root == {}
    outer(False)
    assert root == {"outer": 1, "inner": 1, "loop": 1}


def test_conflict_inside_a_nested_block_repeats_all(store, other):
    root = store.root
    root["n"] = root["m"] = 0
    log = []

    @store.atomic
    def inner():
        log.append("inner")
        root["m"] = root["n"] + 1

    @store.atomic
    def outer():
        log.append("outer")
        root["n"]
        if len(log) == 1:
            other.do(lambda: store.run(lambda: (root.__setitem__("n", 5), root.__setitem__("m", 5))))
        inner()

    outer()
    assert log.count("outer") == 2
    assert root == {"n": 5, "m": 6}


def test_failed_operations_inside_leave_no_trace(store):
    root = store.root
    root["l"] = [1, 2]
    with store.transaction():
        root["a"] = 1
        with pytest.raises(shobj.NotShareableError):
            root.update(b=2, c=object())
        with pytest.raises(ZeroDivisionError):
            root["l"].sort(key=lambda n: root["l"].append(3) or 1 // (n - 2))
        with pytest.raises(ValueError):
            root["l"][::2] = [1, 2, 3]
        with pytest.raises(ZeroDivisionError):
            root.update_with("a", lambda n: root.__setitem__("z", 1) or n // 0)
    assert root == {"l": [1, 2], "a": 1}


def test_sees_its_own_changes(store, other):
    root = store.root
    root["l"] = [1]
    with store.transaction():
        root["l"].append(2)
        root["d"] = {"x": 1}
        assert root["l"] == [1, 2]
        assert list(root) == ["l", "d"]
        assert root["d"]["x"] == 1
        assert "d" in root
        seen = []
        other.do(lambda: seen.append(shobj.to_native(root)))
        assert seen == [{"l": [1]}]
    other.do(lambda: seen.append(shobj.to_native(root)))
    assert seen[1] == {"l": [1, 2], "d": {"x": 1}}


# ------------------------------------------------------------------------------------------------ with


def test_transaction(store, other):
    root = store.root
    with store.transaction() as transaction:
        root["a"] = 1
        assert isinstance(transaction, shobj.Transaction)
    assert root == {"a": 1}
    with pytest.raises(ZeroDivisionError), store.transaction():
        root["a"] = 2
        raise ZeroDivisionError
    assert root == {"a": 1}
    with pytest.raises(shobj.ConflictError, match="run it again"), store.transaction():
        n = root["a"]
        other.do(lambda: root.__setitem__("a", 10))
        root["a"] = n + 1
    assert root == {"a": 10}


def test_conflict_in_the_body_ends_the_block(store, other):
    root = store.root
    root.update(a=1, b=1)
    raised = None
    with pytest.raises(shobj.ConflictError) as caught, store.transaction():
        a = root["a"]
        other.do(lambda: store.run(lambda: (root.__setitem__("a", 2), root.__setitem__("b", 2))))
        try:
            b = root["b"]
        except shobj.ConflictError as error:
            raised = error
            raise
        assert a == b
        root["a"] = 5
    assert raised is None or caught.value is raised
    assert root == {"a": 2, "b": 2}


def test_abort(store):
    root = store.root
    with store.transaction() as transaction:
        root["a"] = 1
        transaction.abort()
        assert "a" not in root
        root["b"] = 2
        transaction.abort()
        root["c"] = 3
    assert root == {}
    with pytest.raises(shobj.TransactionError):
        transaction.abort()
    for attempt in store.attempts():
        with attempt:
            root["a"] = 1
            attempt.abort()
    assert root == {}
    with store.transaction() as outer, store.transaction():
        with pytest.raises(shobj.TransactionError, match="another block"):
            outer.abort()
        root["a"] = 1
    assert root == {"a": 1}
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        root["z"] = 1
        transaction.abort()
        raise ZeroDivisionError
    assert root == {"a": 1}


def test_attempts(store, other):
    root = store.root
    root["n"] = 0
    rounds = 0
    for attempt in store.attempts():
        with attempt:
            rounds += 1
            n = root["n"]
            if rounds < 3:
                other.do(lambda: root.__setitem__("n", root["n"] + 10))
            root["n"] = n + 1
    assert rounds == 3
    assert root["n"] == 21
    with pytest.raises(ZeroDivisionError):
        for attempt in store.attempts():
            with attempt:
                root["n"] = 1 // 0
    assert root["n"] == 21


def test_attempts_misused(store, other):
    with pytest.raises(shobj.TransactionError, match="with attempt"):
        for _ in store.attempts():
            pass
    loop = store.attempts()
    attempt = next(loop)
    with attempt:
        pass
    with pytest.raises(StopIteration):
        next(loop)
    with pytest.raises(shobj.TransactionError), attempt:
        pass
    with pytest.raises(shobj.TransactionError):
        attempt.__exit__(None, None, None)


def test_leaving_a_loop_by_break_after_losing_warns(store, other):
    root = store.root
    root["n"] = 0

    def leave(lose):
        for attempt in store.attempts():
            with attempt:
                root["m"] = root["n"]
                if lose:
                    other.do(lambda: root.__setitem__("n", root["n"] + 1))
                break

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        leave(False)
    assert root["m"] == 0
    with pytest.warns(RuntimeWarning, match="left by break"):
        leave(True)
        gc.collect()
    assert root["m"] == 0


def test_misuse_of_transaction(store):
    transaction = store.transaction()
    with pytest.raises(shobj.TransactionError):
        transaction.__exit__(None, None, None)
    with pytest.raises(shobj.TransactionError):
        transaction.abort()
    with transaction:
        with pytest.raises(shobj.TransactionError), transaction:
            pass
        store.root["a"] = 1
    assert store.root == {"a": 1}


# ------------------------------------------------------------------------------------------------ not interleaved


def test_belongs_to_its_thread(store, other):
    transaction = store.transaction()
    with transaction:
        store.root["a"] = 1

        def meddle():
            with pytest.raises(shobj.TransactionError, match="thread"):
                transaction.__exit__(None, None, None)
            with pytest.raises(shobj.TransactionError, match="thread"):
                transaction.abort()
            assert store.root == {}

        other.do(meddle)
    assert store.root == {"a": 1}


def test_other_store_inside(store, tmp_path):
    with shobj.open_store(tmp_path / "second", "n") as second:
        second.root["x"] = [2, 1]
        with store.transaction():
            store.root["a"] = 1
            for operation in (
                lambda: second.root.__setitem__("a", 1),
                lambda: second.root["x"].append(1),
                lambda: second.root["x"].sort(),
                lambda: second.run(len, "x"),
            ):
                with pytest.raises(shobj.TransactionError):
                    operation()
        assert store.root == {"a": 1}
        assert second.root == {"x": [2, 1]}
        with second.transaction():
            second.root["b"] = 2
    assert store.root == {"a": 1}


def test_interleaved_generators(store):
    root = store.root

    def body(name):
        with store.transaction():
            root[name] = 1
            yield
            root[name] = 2
            yield

    first, second = body("first"), body("second")
    next(first)
    next(second)
    next(first)
    with pytest.raises(shobj.TransactionError, match="interleaved"):
        next(first)
        next(first)
    next(second)
    with pytest.raises(shobj.TransactionError, match="interleaved"):
        next(second)
    assert root == {}
    root["after"] = 1
    with store.transaction():
        root["after"] = 2
    assert root == {"after": 2}


def test_interleaved_coroutines(store):
    root = store.root

    async def task(name):
        with store.transaction():
            root[name] = 1
            await asyncio.sleep(0)
            root[name] = 2

    async def both():
        return await asyncio.gather(task("a"), task("b"), return_exceptions=True)

    results = asyncio.run(both())
    assert any(isinstance(result, shobj.TransactionError) for result in results)
    assert root == {}
    root["after"] = 1
    assert root == {"after": 1}


def test_generator_left_open_inside_a_function(store):
    root = store.root
    kept = []

    def body():
        with store.transaction():
            root["inner"] = 1
            yield

    @store.atomic
    def function():
        root["outer"] = 1
        kept.append(body())
        next(kept[0])

    with pytest.raises(shobj.TransactionError, match="interleaved"):
        function()
    assert root == {}
    with pytest.raises(shobj.TransactionError):
        next(kept[0])
    root["l"] = [1, 2]
    left = []

    def key(n):
        left.append(body())
        next(left[-1])
        return n

    with pytest.raises(shobj.TransactionError):
        root["l"].sort(key=key, reverse=True)
    assert root == {"l": [1, 2]}
    for generator in left:
        with pytest.raises(shobj.TransactionError):
            next(generator)
    root["after"] = 1
    assert root == {"l": [1, 2], "after": 1}


def test_dropped_generator_undoes(store):
    def body():
        with store.transaction():
            store.root["a"] = 1
            yield

    generator = body()
    next(generator)
    del generator
    gc.collect()
    assert store.root == {}
    with store.transaction():
        store.root["b"] = 1
    assert store.root == {"b": 1}


# ------------------------------------------------------------------------------------------------ threads


def test_threads_increment(store):
    root = store.root
    root["n"] = 0
    root["l"] = []

    @store.atomic
    def add(name):
        root["n"] += 1
        root["l"].append((name, root["n"]))

    def work(name):
        for _ in range(200):
            add(name)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert root["n"] == 800
    assert [n for _, n in root["l"]] == list(range(1, 801))
    # A thread gives its session back when its C thread ends, which may be after join() returned.
    wait_for(lambda: store.stat()["sessions"] == 1)


def test_single_operations_of_threads_are_atomic(store):
    shared, values = store.dict(n=0), store.list()

    def work(number):
        for i in range(300):
            shared.update_with("n", lambda n: n + 1)
            values.append((number, i))
            shared.setdefault(i, []).append(number)
            values[0:0] = []

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared["n"] == 1200
    assert len(values) == 1200
    for number in range(4):
        assert [i for n, i in values if n == number] == list(range(300))
    assert all(sorted(shared[i]) == [0, 1, 2, 3] for i in range(300))


def test_reading_while_others_sort(store):
    shared = store.list(range(100))
    stop = threading.Event()
    failures = []

    def work():
        reverse = False
        while not stop.is_set():
            shared.sort(reverse=reverse)
            reverse = not reverse

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(200):
        snapshot = shared[:]
        if sorted(snapshot) != list(range(100)) or snapshot[0] not in (0, 99):
            failures.append(snapshot)
    stop.set()
    thread.join()
    assert failures == []


def test_atomic_function_pickles_by_name(store):
    global module_level
    module_level = store.atomic(module_level_body)
    try:
        assert pickle.loads(pickle.dumps(module_level)) is module_level
    finally:
        del module_level


def module_level_body():
    return 1


module_level_body.__qualname__ = "module_level"
