"""on_commit() and on_abort(): what is called when a transaction is over, whichever way."""

import gc
import os
import threading
import weakref

import pytest
import shobj
from test_retry import LONG, Thread


def both(log, name, on=shobj):
    """Registers one of each; returns nothing that keeps them alive."""
    on.on_commit(log.append, f"{name} committed")
    on.on_abort(log.append, f"{name} undone")


def test_order_and_arguments(store):
    root = store.root
    log = []

    @store.atomic
    def body(fail):
        for i in range(3):
            shobj.on_commit(lambda *args: log.append((args, shobj.to_native(root))), i, "x")
            shobj.on_abort(lambda *args: log.append((args, shobj.to_native(root))), i)
        root["a"] = 1
        assert log == []
        if fail:
            raise ZeroDivisionError
        return 5

    with pytest.raises(ZeroDivisionError):
        body(True)
    assert log == [((2,), {}), ((1,), {}), ((0,), {})]
    log.clear()
    assert body(False) == 5
    assert log == [((i, "x"), {"a": 1}) for i in range(3)]


def test_each_ending(store):
    root = store.root
    log = []
    with store.transaction() as transaction:
        both(log, "with", transaction)
    assert log == ["with committed"]
    log.clear()
    with store.transaction() as transaction:
        both(log, "with")
        transaction.abort()
        both(log, "after")
        assert log == []
    assert log == ["after undone", "with undone"]
    log.clear()
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        both(log, "with", transaction)
        raise ZeroDivisionError
    assert log == ["with undone"]
    log.clear()
    with pytest.raises(SystemExit), store.transaction(readonly=True):
        both(log, "exit")
        raise SystemExit
    assert log == ["exit undone"]
    log.clear()
    with pytest.raises(shobj.TransactionTimeout):
        store.run(lambda: both(log, "timeout") or root.get("a") or shobj.retry(), timeout=0)
    assert log == ["timeout undone"]
    log.clear()
    with pytest.raises(shobj.ReadOnlyError):
        store.run(lambda: both(log, "readonly") or root.update(a=1), readonly=True)
    assert log == ["readonly undone"]
    log.clear()
    with pytest.raises(shobj.TransactionError), store.transaction():
        both(log, "retry")
        root.get("a")
        shobj.retry()
    assert log == ["retry undone"]
    assert root == {}


def test_conflicts(store):
    """Each lost execution is undone; the one that commits, and no other, calls what waits for that."""
    root = store.root
    root["n"] = 0
    log, executions = [], []

    def lose():
        executions.append(len(executions))
        both(log, executions[-1])
        n = root["n"]
        if len(executions) < 3:
            Thread(root.__setitem__, "n", n + 10).result()
        root["n"] = n + 1

    store.run(lose)
    assert log == ["0 undone", "1 undone", "2 committed"]
    log.clear()
    executions.clear()
    for attempt in store.attempts():
        with attempt:
            lose()
    assert log == ["0 undone", "1 undone", "2 committed"]
    log.clear()
    executions.clear()
    with pytest.raises(shobj.ConflictError), store.transaction():
        lose()
    assert log == ["0 undone"]
    log.clear()
    executions.clear()
    with pytest.raises(shobj.ConflictError):
        store.run(lose, tries=2)
    assert log == ["0 undone", "1 undone"]


def test_retry(store):
    root = store.root
    log = []

    @store.atomic(timeout=LONG)
    def wait():
        started.set()
        both(log, "wait")
        return root.get("a") or shobj.retry()

    started = threading.Event()
    waiting = Thread(wait)
    assert started.wait(LONG)
    root["a"] = 1
    assert waiting.result() == 1
    assert log[-1] == "wait committed"
    assert set(log[:-1]) <= {"wait undone"}


def test_nested_blocks(store):
    root = store.root
    log = []

    def inner(name, fail=False):
        both(log, name)
        root[name] = 1
        if fail:
            raise ZeroDivisionError

    @store.atomic
    def outer(fail):
        both(log, "outer")
        store.run(inner, "good")
        with pytest.raises(ZeroDivisionError):
            store.run(inner, "bad", True)
        assert log == ["bad undone"]
        with store.transaction() as transaction:
            inner("block")
            transaction.abort()
        assert log == ["bad undone", "block undone"]
        store.or_else(lambda: inner("first") or shobj.retry(), lambda: inner("second"))
        assert log == ["bad undone", "block undone", "first undone"]
        log.clear()
        if fail:
            raise KeyError

    outer(False)
    assert log == ["outer committed", "good committed", "second committed"]
    log.clear()
    with pytest.raises(KeyError):
        outer(True)
    assert log == ["second undone", "good undone", "outer undone"]


def test_hook_of_an_outer_block(store):
    log = []
    with store.transaction() as outer:
        with pytest.raises(ZeroDivisionError), store.transaction():
            both(log, "outer", outer)
            both(log, "inner")
            raise ZeroDivisionError
        assert log == ["inner undone"]
    assert log == ["inner undone", "outer committed"]


def test_hook_in_a_compound_operation(store):
    root = store.root
    root["n"] = 0
    log = []

    def add(n, fail=False):
        both(log, "add")
        return n // 0 if fail else n + 1

    root.update_with("n", add)
    assert log == ["add committed"]
    log.clear()
    with store.transaction():
        with pytest.raises(ZeroDivisionError):
            root.update_with("n", lambda n: add(n, True))
        assert log == ["add undone"]
        log.clear()
        root.update_with("n", add)
        assert log == []
    assert log == ["add committed"]
    assert root["n"] == 2


def test_hooks_are_outside_the_transaction(store):
    root = store.root
    log = []

    def hook(name):
        with pytest.raises(shobj.TransactionError):
            shobj.retry()
        with pytest.raises(shobj.TransactionError):
            shobj.on_commit(len, "x")
        store.run(lambda: both(log, name) or root.__setitem__(name, 1))

    with store.transaction() as transaction:
        transaction.on_commit(hook, "committed")
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        transaction.on_abort(hook, "undone")
        raise ZeroDivisionError
    assert root == {"committed": 1, "undone": 1}
    assert log == ["committed committed", "undone committed"]


def raise_(error):
    raise error


def test_exceptions_after_the_commit(store):
    root = store.root
    log = []

    def one():
        root["n"] = root.get("n", 0) + 1
        shobj.on_commit(log.append, 1)
        shobj.on_commit(raise_, KeyError("k"))
        shobj.on_commit(log.append, 2)

    def several():
        one()
        shobj.on_commit(raise_, IndexError("i"))
        shobj.on_commit(log.append, 3)

    def in_with(body):
        with store.transaction():
            body()

    def in_loop(body):
        for attempt in store.attempts():
            with attempt:
                body()

    for form in (store.run, in_with, in_loop):
        root["n"] = 0
        with pytest.raises(KeyError, match="k"):
            form(one)
        assert root["n"] == 1
        assert log == [1, 2]
        with pytest.raises(ExceptionGroup) as caught:
            form(several)
        assert [type(error) for error in caught.value.exceptions] == [KeyError, IndexError]
        assert root["n"] == 2
        assert log == [1, 2, 1, 2, 3]
        log.clear()
    with pytest.raises(BaseExceptionGroup) as caught:
        store.run(lambda: (shobj.on_commit(raise_, SystemExit(1)), shobj.on_commit(raise_, KeyError())))
    assert not isinstance(caught.value, ExceptionGroup)


def test_exceptions_after_undoing(store):
    root = store.root
    log = []

    def fail():
        shobj.on_abort(log.append, 1)
        shobj.on_abort(raise_, KeyError("k"))
        shobj.on_abort(log.append, 2)
        root["a"] = 1
        return 1 // 0

    def in_with():
        with store.transaction():
            fail()

    def in_loop():
        for attempt in store.attempts():
            with attempt:
                fail()

    def nested():
        store.run(lambda: store.run(fail))

    for form in (lambda: store.run(fail), in_with, in_loop, nested):
        with pytest.raises(KeyError) as caught:
            form()
        assert isinstance(caught.value.__context__, ZeroDivisionError)
        assert caught.value.__context__.__context__ is None
        assert log == [2, 1]
        log.clear()
    with pytest.raises(KeyError) as caught, store.transaction() as transaction:
        transaction.on_abort(raise_, KeyError("k"))
        transaction.abort()
    assert caught.value.__context__ is None
    with pytest.raises(ExceptionGroup) as caught, store.transaction():
        shobj.on_abort(raise_, IndexError())
        fail()
    assert [type(error) for error in caught.value.exceptions] == [KeyError, IndexError]
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert root == {}


def test_exception_ends_the_trying(store):
    root = store.root
    root["n"] = 0
    executions = []

    def lose():
        executions.append(1)
        shobj.on_abort(raise_, KeyError())
        n = root["n"]
        Thread(root.__setitem__, "n", n + 1).result()
        root["n"] = -1

    with pytest.raises(KeyError):
        store.run(lose)
    with pytest.raises(KeyError):
        for attempt in store.attempts():
            with attempt:
                lose()
    with pytest.raises(KeyError):
        store.run(lambda: shobj.on_abort(raise_, KeyError()) or root["n"] and shobj.retry(), timeout=0.01)
    assert len(executions) == 2
    assert root["n"] == 2


def test_misuse(store):
    transaction = store.transaction()
    for on in (shobj, transaction):
        for function in (on.on_commit, on.on_abort):
            with pytest.raises(shobj.TransactionError):
                function(len, "x")
    with transaction:
        for on in (shobj, transaction):
            for function in (on.on_commit, on.on_abort):
                for bad in ((), (5,), (None, len)):
                    with pytest.raises(TypeError, match=function.__name__):
                        function(*bad)

        def meddle():
            with pytest.raises(shobj.TransactionError, match="thread"):
                transaction.on_commit(len, "x")
            with pytest.raises(shobj.TransactionError, match="outside"):
                shobj.on_commit(len, "x")

        Thread(meddle).result()
    with pytest.raises(shobj.TransactionError):
        transaction.on_commit(len, "x")


class Counted:
    """Something that tells when it is gone, and how often it was called."""

    living = 0

    def __init__(self, calls):
        Counted.living += 1
        self.calls = calls

    def __call__(self, argument):
        assert isinstance(argument, Counted)
        self.calls.append(self)

    def __del__(self):
        Counted.living -= 1


def test_references_are_released_once(path):
    store = shobj.open_store(path, "x")
    root = store.root
    assert Counted.living == 0
    calls = []

    def register():
        for on in (shobj.on_commit, shobj.on_abort):
            for _ in range(3):
                on(Counted(calls), Counted(calls))

    def fail():
        register()
        raise ZeroDivisionError

    def interleave():
        def body():
            with store.transaction():
                register()
                yield

        register()
        next(body())
        generator = body()
        next(generator)
        kept.append(generator)

    def shut():
        register()
        store.close()

    def check(count):
        assert len(calls) == count
        calls.clear()
        kept.clear()
        gc.collect()
        assert Counted.living == 0

    kept = []
    store.run(register)
    check(3)
    with pytest.raises(ZeroDivisionError):
        store.run(fail)
    check(3)
    with pytest.raises(ZeroDivisionError):
        store.run(lambda: (register(), store.run(register), store.run(fail)))
    check(9)
    with pytest.raises(shobj.TransactionTimeout):
        store.run(lambda: register() or root.get("a") or shobj.retry(), timeout=0)
    check(3)
    with pytest.raises(shobj.TransactionError, match="interleaved"):
        store.run(interleave)
    check(9)
    with pytest.raises(shobj.StoreClosedError):
        store.run(shut)
    check(3)


def test_hooks_of_a_generator(store):
    """Undone by being dropped, and by being interleaved."""
    log = []

    def body(name):
        with store.transaction():
            both(log, name)
            yield

    generator = body("dropped")
    next(generator)
    del generator
    gc.collect()
    assert log == ["dropped undone"]
    log.clear()
    first, second = body("first"), body("second")
    next(first)
    next(second)
    with pytest.raises(shobj.TransactionError):
        next(first)
    assert log == []
    with pytest.raises(shobj.TransactionError):
        next(second)
    assert sorted(log) == ["first undone", "second undone"]


def test_fork_with_an_open_transaction(store, tmp_path):
    """What waits for the parent's transaction is the parent's: the child drops it."""
    report = tmp_path / "report"
    log = []
    target = Counted([])
    living = weakref.ref(target)

    def body(transaction):
        nonlocal target
        both(log, "body", transaction)
        transaction.on_commit(target, target)
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            target = None
        return pid

    pid = None
    try:
        with store.transaction() as transaction:
            pid = body(transaction)
        if pid == 0:
            os._exit(1)
    except shobj.TransactionError as error:
        if pid != 0:
            raise
        target = None
        with store.transaction() as own:
            both(log, "own", own)
        report.write_text(f"{log} {living()} {'forked' in str(error)}")
        os._exit(0)
    assert report.read_text() == "['own committed'] None True"
    assert log == ["body committed"]
