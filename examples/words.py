#!/usr/bin/env python3
"""Counts the words of many files into one shared dict; any number of processes may help, and any may die.

    words.py add STORE FOLDER      note down the files to count: every *.py below FOLDER, tests and packages left out
    words.py count STORE [N/OF]    count; helper N (from 0) of OF begins at its own part of the files
    words.py top STORE [NUMBER]    print the words met most often

A file's words are added, and the file is marked as done, in one transaction: it counts exactly once, whoever dies when.
When a helper has gone through its own part it goes on with whatever is left of the others'.
"""

import collections
import pathlib
import re
import sys

import shobj

WORD = re.compile(r"[A-Za-z_]\w*")
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages"}


def words_of(path: str) -> collections.Counter[str]:
    """The words of one file with their numbers."""
    return collections.Counter(WORD.findall(pathlib.Path(path).read_text(encoding="utf-8", errors="replace")))


def add(store: shobj.Store, folder: str) -> int:
    """Stores the work to do; returns the number of files."""
    top = pathlib.Path(folder)
    files = sorted(str(path) for path in top.rglob("*.py") if LEFT_OUT.isdisjoint(path.relative_to(top).parts))
    store.root["words"] = {"files": files, "done": {}, "counts": {}}
    return len(files)


def count(store: shobj.Store, part: int = 0, parts: int = 1) -> int:
    """Counts until every file is done; returns how many this process did."""
    work = store.root["words"]
    done, counts = work["done"], work["counts"]
    files = list(work["files"])
    first = len(files) * part // parts

    @store.atomic
    def finish(path: str, words: collections.Counter[str]) -> bool:
        if path in done:
            return False
        for word, number in words.items():
            counts[word] = counts.get(word, 0) + number
        done[path] = sum(words.values())
        return True

    return sum(finish(path, words_of(path)) for path in files[first:] + files[:first] if path not in done)


def print_top(store: shobj.Store, number: int) -> None:
    """Prints the most frequent words."""
    counts = shobj.to_native(store.root["words"]["counts"])
    for word, met in collections.Counter(counts).most_common(number):
        print(f"{met:8} {word}")


def main() -> int:
    match sys.argv[1:]:
        case ["add", path, folder]:
            with shobj.open_store(path) as store:
                print(f"{add(store, folder)} files to count")
        case ["count", path, *rest]:
            part, parts = (int(number) for number in rest[0].split("/")) if rest else (0, 1)
            with shobj.open_store(path, flag="w") as store:
                print(f"counted {count(store, part, parts)} files")
        case ["top", path, *rest]:
            with shobj.open_store(path, flag="r") as store:
                print_top(store, int(rest[0]) if rest else 10)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
