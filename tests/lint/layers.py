#!/usr/bin/env python3
"""Checks who includes whom.

A folder of the library includes itself and the folders below it in the order base, heap, txn, object, types, gc, api;
the private headers are named with their folder ("heap/slab.h"). The command, the mount, the Python module and the
examples include <shobj.h> alone.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS = ["base", "heap", "txn", "object", "types", "gc", "api"]
USERS = ["cli", "fuse", "python", "examples"]
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def problems_in_library() -> list[str]:
    found = []
    for level, layer in enumerate(LAYERS):
        for path in sorted((ROOT / "store" / layer).glob("*.[ch]")):
            for quoted, _ in INCLUDE.findall(path.read_text()):
                where = f"{path.relative_to(ROOT)}: includes \"{quoted}\""
                folder = quoted.split("/")[0] if "/" in quoted else layer
                if folder not in LAYERS:
                    if quoted != "shobj.h":
                        found.append(f"{where}, which is in no folder of the library")
                elif LAYERS.index(folder) > level:
                    found.append(f"{where}, but {layer} stands below {folder}")
                elif not (ROOT / "store" / folder / quoted.split("/")[-1]).exists():
                    found.append(f"{where}, which does not exist")
    return found


def problems_in_users() -> list[str]:
    private = {path.name for layer in LAYERS for path in (ROOT / "store" / layer).glob("*.h")}
    found = []
    for user in USERS:
        for path in sorted((ROOT / user).rglob("*.[ch]")):
            for quoted, angled in INCLUDE.findall(path.read_text()):
                name = quoted or angled
                own = quoted and (path.parent / quoted).exists()
                if not own and (name.split("/")[0] in LAYERS or ".." in name or Path(name).name in private):
                    found.append(f"{path.relative_to(ROOT)}: includes \"{name}\"; {user} may include <shobj.h> alone")
    return found


def main() -> int:
    found = problems_in_library() + problems_in_users()
    print("\n".join(found) or "every include points to the same folder, or one below")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
