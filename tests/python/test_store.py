"""Opening, closing, listing, unlinking; and what goes wrong with files."""

import errno
import os
import pickle
import stat
import subprocess
import sys

import pytest
import shobj


def test_flags(path):
    for flag in ("r", "w"):
        with pytest.raises(shobj.StoreNotFoundError):
            shobj.open_store(path, flag)
    with shobj.open_store(path, "c") as store:
        store.root["a"] = 1
        uuid = store.uuid
    with shobj.open_store(path) as store:
        assert store.root == {"a": 1}
        assert store.uuid == uuid
        store.root["b"] = 2
    with shobj.open_store(path, "r") as store:
        assert store.readonly
        assert store.root == {"a": 1, "b": 2}
        with pytest.raises(shobj.ReadOnlyError) as caught:
            store.root["c"] = 3
        assert isinstance(caught.value, PermissionError)
        with pytest.raises(shobj.ReadOnlyError):
            store.list([1])
    with pytest.raises(shobj.StoreExistsError):
        shobj.open_store(path, "x")
    with shobj.open_store(path, "w") as store:
        assert store.root == {"a": 1, "b": 2}
        assert not store.readonly
    with shobj.open_store(path, "n") as store:
        assert store.root == {}
        assert store.uuid != uuid
    shobj.unlink(path)
    with shobj.open_store(path, "x") as store:
        assert store.root == {}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_mode(path):
    old = os.umask(0o022)
    try:
        shobj.open_store(path, "n", mode=0o666).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


def test_attributes(store, path):
    assert store.path == path
    assert store.closed is False
    assert store.readonly is False
    assert len(store.uuid) == 36
    assert repr(store) == f"<shobj.Store {path!r}>"
    assert store.root.store.path == path
    assert store.root.store.uuid == store.uuid


@pytest.mark.parametrize("make", [str, os.fsencode, __import__("pathlib").Path])
def test_kinds_of_path(path, make):
    with shobj.open_store(make(path), "n") as store:
        assert store.path == path
    shobj.unlink(make(path))


def test_close(path):
    store = shobj.open_store(path, "n")
    root = store.root
    root["l"] = [1]
    shared = root["l"]
    iterator = iter(shared)
    run = store.atomic(lambda: None)
    store.close()
    store.close()
    assert store.closed
    assert "closed" in repr(store)
    for operation in (
        lambda: store.root,
        lambda: store.uuid,
        lambda: store.stat(),
        lambda: store.check(),
        lambda: store.sessions(),
        lambda: store.get(1),
        lambda: store.list(),
        lambda: store.dict(),
        lambda: store.run(len, "x"),
        lambda: store.atomic(len),
        lambda: store.attempts(),
        lambda: store.transaction(),
        lambda: store.__enter__(),
        lambda: root["l"],
        lambda: root.__setitem__("x", 1),
        lambda: "l" in root,
        lambda: len(shared),
        lambda: shared[0],
        lambda: shared.append(1),
        lambda: shared.sort(),
        lambda: list(shared),
        lambda: next(iterator),
        lambda: list(root.items()),
        lambda: shobj.to_native(root),
        lambda: pickle.dumps(root),
        lambda: root == {},
        lambda: shared == [1],
        lambda: run(),
    ):
        with pytest.raises(shobj.StoreClosedError) as caught:
            operation()
        assert path in str(caught.value)


def test_openings_are_counted(path):
    first = shobj.open_store(path, "n")
    second = shobj.open_store(path)
    assert first.root is second.root
    root = first.root
    first.close()
    assert first.closed
    assert not second.closed
    with pytest.raises(shobj.StoreClosedError):
        first.root  # noqa: B018
    root["a"] = 1
    second.close()
    with pytest.raises(shobj.StoreClosedError):
        root["a"]


def test_a_forgotten_store_stays_open_for_its_proxies(path):
    root = shobj.open_store(path, "n").root
    root["a"] = [1]
    assert root["a"] == [1]
    processes = root.store.stat()["processes"]
    assert processes == 1
    del root
    with shobj.open_store(path) as store:
        assert store.root == {"a": [1]}
        assert store.stat()["processes"] == 1


def test_context_manager_closes_after_errors(path):
    with pytest.raises(ZeroDivisionError), shobj.open_store(path, "n") as store:
        store.root["a"] = 1 // 0
    assert store.closed


def test_closing_in_the_middle(path):
    store = shobj.open_store(path, "n")
    root = store.root
    root["l"] = [3, 1, 2]
    with pytest.raises(shobj.StoreClosedError):
        root["l"].sort(key=lambda x: store.close() or root["l"])
    with shobj.open_store(path) as again:
        assert again.root == {"l": [3, 1, 2]}
        with pytest.raises(shobj.StoreClosedError), again.transaction():
            again.root["a"] = 1
            again.close()
    with shobj.open_store(path) as again:
        assert again.root == {"l": [3, 1, 2]}


def test_stat(store):
    store.root.update({f"k{i}": [i] for i in range(100)})
    numbers = store.stat()
    for name in ("file_bytes", "used_bytes", "free_bytes", "objects", "commits", "conflicts", "retries", "recoveries",
                 "collections", "sessions"):  # fmt: skip
        assert isinstance(numbers[name], int)
    assert numbers["objects"] >= 101
    assert numbers["commits"] >= 1
    assert numbers["sessions"] == 1
    assert 0 < numbers["used_bytes"] < numbers["file_bytes"]


def test_sessions(store):
    store.root["a"] = 1
    (session,) = store.sessions()
    assert session["pid"] == os.getpid()
    assert session["alive"] is True
    assert session["self"] is True
    assert session["state"] == "idle"
    with store.transaction():
        store.root["a"] = 2
        (session,) = store.sessions()
        assert session["state"] == "active"
        assert session["began_ns"] > 0


def test_names_and_listing(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOBJ_DIR", str(tmp_path))
    assert shobj.list_stores() == []
    for name in ("b", "a"):
        shobj.open_store(name, "n").close()
    (tmp_path / "no store").write_text("just text")
    assert shobj.list_stores() == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert shobj.list_stores(tmp_path) == shobj.list_stores(directory=str(tmp_path)) == shobj.list_stores()
    shobj.unlink("a")
    assert shobj.list_stores() == [str(tmp_path / "b")]
    with pytest.raises(OSError):
        shobj.list_stores(tmp_path / "nowhere")


def test_unlink(path):
    with pytest.raises(shobj.StoreNotFoundError) as caught:
        shobj.unlink(path)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == path
    with shobj.open_store(path, "n") as store:
        with pytest.raises(shobj.Error, match="in use|open"):
            shobj.unlink(path, force=False)
        shobj.unlink(path)
        assert not os.path.exists(path)
        store.root["a"] = 1
        assert store.root["a"] == 1


# ------------------------------------------------------------------------------------------------ bad input


def corrupt(data):
    def write(path):
        with open(path, "wb") as file:
            file.write(data)

    return write


def newer(path):
    """A heap whose layout version, wherever it is in the superblock, is another one."""
    with shobj.open_store(path, "n") as store:
        version = store.stat()["layout_version"]
    with open(path, "r+b") as file:
        head = bytearray(file.read(64))
        at = head.find(version.to_bytes(4, "little"), 8)
        head[at : at + 4] = (77).to_bytes(4, "little")
        file.seek(0)
        file.write(head)


def truncated(path):
    shobj.open_store(path, "n").close()
    os.truncate(path, 100)


def half(path):
    shobj.open_store(path, "n").close()
    os.truncate(path, os.path.getsize(path) // 2)


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (corrupt(b""), shobj.CorruptedError),
        (corrupt(b"hello, world\n"), shobj.CorruptedError),
        (corrupt(os.urandom(1 << 16)), shobj.CorruptedError),
        (corrupt(bytes(1 << 20)), shobj.CorruptedError),
        (truncated, shobj.CorruptedError),
        (half, shobj.CorruptedError),
        (newer, shobj.VersionMismatchError),
        (os.mkdir, (OSError, ValueError, shobj.CorruptedError)),
    ],
    ids=["empty", "text", "random", "zeros", "truncated", "half", "newer", "directory"],
)
def test_not_a_heap(path, prepare, error):
    prepare(path)
    before = None if os.path.isdir(path) else open(path, "rb").read()
    try:
        for flag in ("w", "r", "c"):
            with pytest.raises(error) as caught:
                shobj.open_store(path, flag)
            assert path in str(caught.value)
        if before is None:
            assert os.path.isdir(path)
        else:
            assert open(path, "rb").read() == before
    finally:
        if os.path.isdir(path):
            os.rmdir(path)


def test_missing_directory(tmp_path):
    with pytest.raises((shobj.StoreNotFoundError, OSError)) as caught:
        shobj.open_store(tmp_path / "nowhere" / "store", "c")
    assert "nowhere" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_unwritable_directory(tmp_path):
    os.chmod(tmp_path, 0o755)
    reachable = all(os.stat(parent).st_mode & 0o001 for parent in tmp_path.parents)
    target = f"{tmp_path}/store" if reachable else "/shobj-unwritable"
    code = f"""
import os, shobj
os.setuid(65534)
try: shobj.open_store({target!r}, 'n')
except PermissionError: print('no')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "no\n", done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_file_of_somebody_else(path):
    shobj.open_store(path, "n").close()
    code = f"""
import os, shobj
os.setuid(65534)
for flag in "wr":
    try: shobj.open_store({path!r}, flag)
    except PermissionError as error: print("no", {path!r} in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "no True\nno True\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"flag": "z"}, ValueError),
        ({"flag": "rw"}, ValueError),
        ({"flag": ""}, ValueError),
        ({"flag": None}, ValueError),
        ({"flag": 5}, ValueError),
        ({"size": 0}, ValueError),
        ({"size": -1}, ValueError),
        ({"size": 2**64}, ValueError),
        ({"size": "1M"}, TypeError),
        ({"size": 1.5}, TypeError),
        ({"max_size": -1}, ValueError),
        ({"max_size": 10}, ValueError),
        ({"mode": 0o10000}, ValueError),
        ({"mode": -1}, ValueError),
        ({"mode": "rw"}, TypeError),
        ({"code": "maybe"}, ValueError),
        ({"code": None}, ValueError),
        ({"unknown": 1}, TypeError),
    ],
    ids=str,
)
def test_bad_arguments(path, arguments, error):
    with pytest.raises(error):
        shobj.open_store(path, **{"flag": "n", **arguments})
    assert not os.path.exists(path)


@pytest.mark.parametrize("bad", ["", b"", "a\0b", None, 5, 1.5, object()])
def test_bad_paths(bad):
    with pytest.raises((ValueError, TypeError)):
        shobj.open_store(bad, "w")
    with pytest.raises((ValueError, TypeError)):
        shobj.unlink(bad)


def test_very_long_path():
    with pytest.raises((OSError, ValueError)):
        shobj.open_store("/dev/shm/" + "x" * 5000, "c")


def test_full(path):
    with shobj.open_store(path, "n", max_size=16 << 20) as store:
        root = store.root
        root["list"] = []
        values, count = root["list"], 0
        with pytest.raises(shobj.StoreFullError) as caught:
            while True:
                values.append("x" * 5000)
                count += 1
        assert isinstance(caught.value, MemoryError)
        assert path in str(caught.value)
        assert len(values) == count
        assert count > 1000
        with pytest.raises(shobj.StoreFullError):
            root["big"] = ["y" * 5000 for _ in range(5000)]
        assert list(root) == ["list"]
        with pytest.raises(shobj.StoreFullError):
            values *= 1000
        with pytest.raises(shobj.StoreFullError), store.transaction():
            values.pop()
            for _ in range(1000):
                values.append("z" * 5000)
        assert len(values) == count
        assert values[0] == values[-1] == "x" * 5000
        for _ in range(100):
            values.pop()
        for _ in range(80):
            values.append("w" * 5000)
        assert len(values) == count - 20
        assert store.check() == []


def test_error_classes():
    pairs = {
        shobj.StoreNotFoundError: FileNotFoundError,
        shobj.StoreExistsError: FileExistsError,
        shobj.StoreClosedError: ValueError,
        shobj.ReadOnlyError: PermissionError,
        shobj.StoreFullError: MemoryError,
        shobj.NotShareableError: TypeError,
        shobj.StaleObjectError: LookupError,
        shobj.TransactionTimeout: TimeoutError,
        shobj.ConflictError: shobj.TransactionError,
        shobj.VersionMismatchError: shobj.Error,
        shobj.CorruptedError: shobj.Error,
        shobj.TransactionError: shobj.Error,
    }
    for ours, base in pairs.items():
        assert issubclass(ours, base)
        assert issubclass(ours, shobj.Error)
        assert ours.__module__ == "shobj"
        assert ours.__doc__
        assert type(pickle.loads(pickle.dumps(ours("message")))) is ours
