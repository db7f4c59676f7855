#!/usr/bin/env python3
"""Compares what libshobj.so exports with what shobj.h declares: usage: exports.py LIBRARY.

Every function that the header marks with SHOBJ_API must be there, and nothing else may be.
"""

import re
import subprocess
import sys
from pathlib import Path

HEADER = Path(__file__).parents[2] / "store/include/shobj.h"


def declared(header: str) -> set[str]:
    """Names of the functions marked SHOBJ_API."""
    code = re.sub(r"/\*.*?\*/|^\s*#.*?(?<!\\)$", "", header, flags=re.DOTALL | re.MULTILINE)
    declarations = re.findall(r"\bSHOBJ_API\b([^;]*);", code)
    names = [re.search(r"(\w+)\s*\(", declaration) for declaration in declarations]
    if None in names:
        sys.exit(f"exports: a declaration in {HEADER} was not understood: {declarations[names.index(None)]}")
    return {name[1] for name in names if name}


def exported(library: str) -> set[str]:
    """Names of the dynamic symbols that a shared library defines."""
    nm = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True)
    return {line.split()[-1].split("@")[0] for line in nm.stdout.splitlines()}


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    want, have = declared(HEADER.read_text()), exported(sys.argv[1])
    for name in sorted(want - have):
        print(f"{name}: declared in {HEADER.name}, not exported by {sys.argv[1]}")
    for name in sorted(have - want):
        print(f"{name}: exported by {sys.argv[1]}, not declared in {HEADER.name}")
    if want != have:
        return 1
    print(f"{len(want)} symbols, each declared and exported")
    return 0


if __name__ == "__main__":
    sys.exit(main())
