#!/usr/bin/env python3
"""Adds up the results of a test run.

    tally.py DIRECTORY             prints 'N passed, N failed, N skipped'; the exit code tells whether none failed
    tally.py --has-failure REPORT  exit code 0 if this report counts a failure

DIRECTORY holds JUnit reports (*.xml, at any depth) and `checks`, a file with a line "pass NAME" or "fail NAME" for each
check that has no report of its own.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree


def count(report: Path) -> tuple[int, int, int, list[str]]:
    """Passed, failed, skipped, and the names of the failed of one JUnit report."""
    passed = failed = skipped = 0
    names = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
            failed += 1
            names.append(f"{case.get('classname', '')} {case.get('name', '')}".strip())
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped, names


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "--has-failure":
        return 0 if count(Path(sys.argv[2]))[1] else 1
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = Path(sys.argv[1])
    totals = [0, 0, 0]
    failures = []
    for report in sorted(directory.rglob("*.xml")):
        *counts, names = count(report)
        totals = [total + more for total, more in zip(totals, counts, strict=True)]
        failures += [f"{report.relative_to(directory).with_suffix('')}: {name}" for name in names]
    checks = directory / "checks"
    for line in checks.read_text().splitlines() if checks.exists() else []:
        verdict, name = line.split(" ", 1)
        totals[verdict != "pass"] += 1
        failures += [name] if verdict != "pass" else []
    for name in failures:
        print(f"FAILED {name}")
    print("{} passed, {} failed, {} skipped".format(*totals))
    return 1 if totals[1] or not totals[0] else 0


if __name__ == "__main__":
    sys.exit(main())
