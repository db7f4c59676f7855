"""The package as such: what importing does, stubs, several interpreters, nothing leaks."""

import ast
import gc
import importlib.util
import inspect
import pathlib
import resource
import subprocess
import sys
import textwrap
import tracemalloc

import pytest
import shobj
from shobj import _shobj

PACKAGE = pathlib.Path(shobj.__file__).parent


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_nothing_else():
    code = "import sys; before = set(sys.modules); import shobj; print(*sorted(set(sys.modules) - before))"
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["shobj", "shobj._shobj"], done.stderr


def test_exports():
    assert (PACKAGE / "py.typed").exists()
    public = {name for name in dir(_shobj) if not name.startswith("_")}
    assert set(shobj.__all__) == public | {"__version__"}
    assert list(shobj.__all__) == sorted(shobj.__all__)
    for name in public:
        assert getattr(shobj, name) is getattr(_shobj, name)
    assert shobj.__version__ == _shobj.__version__


def test_everything_is_documented():
    for name in shobj.__all__:
        thing = getattr(shobj, name)
        if not isinstance(thing, type):
            assert inspect.getdoc(thing), name
            continue
        if name.startswith("Dict") and name != "Dict":
            continue
        assert inspect.getdoc(thing), name
        for attribute, member in vars(thing).items():
            if not attribute.startswith("_"):
                assert inspect.getdoc(member), f"{name}.{attribute}"


# ------------------------------------------------------------------------------------------------ stubs


def stub():
    return ast.parse((PACKAGE / "_shobj.pyi").read_text())


def functions_of(body):
    """Name -> definitions (several, if overloaded)."""
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
    return found


def parameters(definition, bound):
    arguments = definition.args
    positional = [a.arg for a in arguments.posonlyargs + arguments.args][1 if bound else 0 :]
    return positional, [a.arg for a in arguments.kwonlyargs], arguments.vararg, arguments.kwarg


def check_signature(name, definitions, thing, bound):
    try:
        signature = inspect.signature(thing)
    except ValueError:
        assert name.startswith("__"), f"{name} has no text signature"
        return
    kinds = [p.kind for p in signature.parameters.values()]
    names = list(signature.parameters)
    if bound and names and names[0] in ("self", "$self"):
        kinds, names = kinds[1:], names[1:]
    for definition in definitions:
        positional, keyword_only, _, keywords = parameters(definition, bound)
        real_keyword_only = [n for n, k in zip(names, kinds, strict=True) if k is inspect.Parameter.KEYWORD_ONLY]
        real_positional = [
            n
            for n, k in zip(names, kinds, strict=True)
            if k in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ]
        takes_rest = inspect.Parameter.VAR_POSITIONAL in kinds
        if not (keywords and ast.unparse(keywords.annotation).endswith(".kwargs")):  # a ParamSpec allows no others
            assert keyword_only == real_keyword_only, name
        if not takes_rest and not name.startswith("__"):
            assert positional == real_positional[: len(positional)], name


def test_stub_has_what_the_module_has():
    tree = stub()
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    functions = functions_of(tree.body)
    constants = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    named = {n for n in set(classes) | set(functions) | constants if not n.startswith("_")} | {"__version__"}
    assert named == {name for name in dir(_shobj) if not name.startswith("_")} | {"__version__"}
    for name, definitions in functions.items():
        check_signature(name, definitions, getattr(_shobj, name), False)


CLASSES = ["Dict", "List", "Store", "Transaction", "Attempts", "DictKeys", "DictItems", "DictValues"]


@pytest.mark.parametrize("name", CLASSES)
def test_stub_of_class(name):
    node = next(n for n in stub().body if isinstance(n, ast.ClassDef) and n.name == name)
    described = functions_of(node.body)
    real = getattr(_shobj, name)
    public = {attribute for attribute in vars(real) if not attribute.startswith("_")}
    assert {attribute for attribute in described if not attribute.startswith("_")} == public
    for attribute, definitions in described.items():
        assert hasattr(real, attribute), f"{name}.{attribute}"
        is_property = any(getattr(d, "id", "") == "property" for d in definitions[0].decorator_list)
        member = inspect.getattr_static(real, attribute)
        assert is_property == inspect.isgetsetdescriptor(member), f"{name}.{attribute}"
        if not is_property:
            check_signature(attribute, definitions, getattr(real, attribute), True)


@pytest.mark.parametrize("name", ["Dict", "List"])
def test_stub_lists_the_operators(name):
    node = next(n for n in stub().body if isinstance(n, ast.ClassDef) and n.name == name)
    native = {"Dict": dict, "List": list}[name]
    taken_for_granted = {
        "__class__", "__delattr__", "__dir__", "__doc__", "__format__", "__getattribute__", "__getstate__", "__hash__",
        "__init__", "__init_subclass__", "__ne__", "__new__", "__reduce_ex__", "__repr__", "__setattr__", "__sizeof__",
        "__str__", "__subclasshook__",
    }  # fmt: skip
    missing = set(dir(native)) - taken_for_granted - set(functions_of(node.body))
    if name == "Dict":
        missing -= {"__lt__", "__le__", "__gt__", "__ge__"}  # there to say no
    assert missing == set()


@pytest.mark.parametrize("native", [dict, list])
def test_no_method_of_the_native_type_is_missing(native):
    ours = {dict: shobj.Dict, list: shobj.List}[native]
    assert set(dir(native)) - set(dir(ours)) == set()


# ------------------------------------------------------------------------------------------------ interpreters


SHARED_CODE = """
import shobj
store = shobj.open_store({path!r}, "w")
for _ in range(50):
    store.root.update_with("n", lambda n: n + 1)
store.root["from"].append(__name__)
try:
    store.root["x"] = object()
except shobj.NotShareableError:
    store.root["error"] = True
assert store.root["from"] is store.root["from"]
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters with a lock of their own need 3.12")
def test_interpreters_with_their_own_lock(store, path):
    name = "_interpreters" if importlib.util.find_spec("_interpreters") else "_xxsubinterpreters"
    store.root.update({"n": 0, "from": []})
    run(
        """
        import importlib, sys, threading
        interpreters = importlib.import_module(sys.argv[1])
        make = ("isolated",) if sys.argv[1] == "_interpreters" else ()
        def work(number):
            ident = interpreters.create(*make)
            failed = interpreters.run_string(ident, sys.argv[2])
            assert failed is None, failed
            interpreters.destroy(ident)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        import shobj
        for t in threads: t.start()
        for t in threads: t.join()
        """,
        name,
        SHARED_CODE.format(path=path),
    )
    assert store.root["n"] == 150
    assert store.root["from"] == ["__main__"] * 3
    assert store.root["error"] is True


def test_loading_twice(store, path):
    """A second instance of the module has its own types and goes on with the same store."""
    out = run(
        """
        import sys, shobj
        first = shobj
        for name in [n for n in sys.modules if n.startswith("shobj")]:
            del sys.modules[name]
        import shobj
        assert shobj.Dict is not first.Dict
        with first.open_store(sys.argv[1]) as a, shobj.open_store(sys.argv[1]) as b:
            a.root["l"] = [1]
            b.root["l"].append(2)
            assert type(a.root["l"]) is first.List and type(b.root["l"]) is shobj.List
            try:
                b.root["m"] = a.root["l"]
            except shobj.NotShareableError:
                print("refused")
            print(a.root)
        """,
        path,
    )
    assert out == "refused\n{'l': [1, 2]}\n"


def test_ending_with_everything_open(path):
    """An interpreter that ends with stores, iterators and a transaction open ends quietly."""
    out = run(
        """
        import sys, threading, shobj
        store = shobj.open_store(sys.argv[1], "n")
        root = store.root
        root["l"] = list(range(100))
        kept = [iter(root["l"]), iter(root.items()), store.atomic(lambda: root), root.keys(), store.attempts()]
        for it in kept[:2]: next(it)
        root_in_module = shobj._shobj.kept = root
        threading.Thread(target=lambda: threading.Event().wait(1000), daemon=True).start()
        t = store.transaction()
        t.__enter__()
        root["gone"] = 1
        print("end")
        """,
        path,
    )
    assert out == "end\n"
    with shobj.open_store(path, "w") as store:
        assert "gone" not in store.root
        assert store.check() == []


# ------------------------------------------------------------------------------------------------ leaks


def everything(store, number):
    root = store.root
    shared = root["d"] = {"a": [1, "x" * 50, (1, [2])], f"k{number % 10}": 2.5}
    shared = root["d"]
    values = root["l"] = [1, 2, 3]
    values = root["l"]
    values.append("é" * 10)
    values.extend(range(40))
    values[3:5] = [{"b": 2**100}]
    values.sort(key=str)
    values.reverse()
    values *= 2
    del values[::2]
    values.remove(1) if 1 in values else None
    list(values), list(reversed(values)), values[1:9:2], values + [1], values * 2, values.index(values[0])
    next(iter(values)), next(iter(shared.items()))
    list(shared.items()), shared.keys() & {"a"}, shared | {"z": 1}, shared == {"a": 1}, shared.copy()
    shared.update(x=1), shared.setdefault("y", []), shared.pop("x"), shared.popitem(), shared.get("none")
    shared.update_with("n", lambda n: n + 1, 0)
    repr(root), shobj.to_native(root), store.run(lambda: root["d"]), store.stat(), store.sessions(), store.check()
    with store.transaction() as transaction:
        values.clear()
        transaction.abort()
    for attempt in store.attempts():
        with attempt:
            values.clear()
    for failing in (
        lambda: shared.__setitem__("k", object()),
        lambda: shared["missing"],
        lambda: values[1000],
        lambda: values.extend([1, object()]),
        lambda: shared.update(a=object()),
        lambda: shared[[]],
        lambda: values.sort(key=lambda x: 1 // 0) or values.append(1) or values.sort(key=lambda x: 1 // 0),
        lambda: store.get(12345),
        lambda: store.run(lambda: 1 // 0),
        lambda: shobj.open_store("/dev/shm/no such store", "r"),
        lambda: shobj.to_native(object()),
    ):
        with pytest.raises((TypeError, KeyError, IndexError, ZeroDivisionError, LookupError, FileNotFoundError)):
            failing()


def test_no_python_memory_leaks(store):
    for number in range(30):
        everything(store, number)
    gc.collect()
    tracemalloc.start()
    try:
        everything(store, 0)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(40):
            everything(store, number)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 40 * 200, "more than 200 bytes a round"


def test_no_references_leak(store):
    marks = ["mark " * 3, b"mark " * 3, 10**50, (1, "mark"), lambda x: x]
    before = [sys.getrefcount(mark) for mark in marks]
    shared, values = store.dict(), store.list()
    for _ in range(100):
        for mark in marks[:4]:
            shared[mark] = mark
            shared.setdefault(mark, mark)
            shared.update({mark: mark})
            assert mark in shared
            assert shared[mark] == mark
            values.append(mark)
            values[0] = mark
            values[0:1] = [mark, mark]
            assert mark in values
            values.remove(mark)
            store.dict({"x": [mark]})
        values.sort(key=str)
        shared.update_with("n", marks[4], 1)
        store.atomic(marks[4])(1)
        with pytest.raises(shobj.NotShareableError):
            values.append([marks[0], marks[4]])
        values.clear()
        shared.clear()
    del mark
    gc.collect()
    assert [sys.getrefcount(mark) for mark in marks] == before


def test_opening_and_closing_leaks_nothing(path):
    def once():
        with shobj.open_store(path, "c") as store:
            store.root["a"] = [1]
            list(store.root["a"])

    for _ in range(20):
        once()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    descriptors = len(list(pathlib.Path("/proc/self/fd").iterdir()))
    maps = len(pathlib.Path("/proc/self/maps").read_text().splitlines())
    for _ in range(200):
        once()
    assert len(list(pathlib.Path("/proc/self/fd").iterdir())) == descriptors
    assert len(pathlib.Path("/proc/self/maps").read_text().splitlines()) <= maps + 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 20_000
