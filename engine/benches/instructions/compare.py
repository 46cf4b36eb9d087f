"""Adds up callgrind's profiles per unit of work and compares with what is recorded; see scripts/instructions."""

import collections
import json
import pathlib
import re
import sys

RISE_MAX = 0.05

# The functions that seal, open and hash: how many instructions they take depends on what valgrind knows of the processor.
CIPHER_FILE = re.compile(r"/aws-lc/|/(sha1|hmac|digest|block-buffer)-\d")
CIPHER_NAME = re.compile(r"^aws_lc_|^<?(sha1|hmac|digest|block_buffer)::")


def functions(profile):
    """Instructions of each function itself, as {(is_cipher, name): count}."""
    names, files, found = {}, {}, collections.Counter()
    file, function, is_call = "", None, False

    def name(table, text):
        # `(12) name` gives a number to a name, `(12)` uses it.
        number, _, rest = text.partition(" ")
        return table.setdefault(number, rest)

    for line in profile.read_text().splitlines():
        key, is_named, text = line.partition("=")
        if key == "fl":
            file = name(files, text)
        elif key in ("fi", "fe", "cfi", "cfl"):
            name(files, text)
        elif key == "fn":
            function = name(names, text)
            # A number at the end tells levels of recursion apart.
            function = re.sub(r"'\d+$", "", function)
            function = (bool(CIPHER_FILE.search(file) or CIPHER_NAME.search(function)), function)
        elif key == "cfn":
            name(names, text)
        elif key == "calls":
            is_call = True
        elif not is_named and line and line[0] in "0123456789+-*":
            # What a call costs is on the line after it, and is the callee's.
            if not is_call:
                found[function] += int(line.split()[1])
            is_call = False
        elif key == "totals" and found.total() != int(text):
            sys.exit(f"{profile}: functions add up to {found.total()} instructions, not to {text}")
    return found


def measure(results, case):
    """The case's unit, its instructions per unit (all, and without the cipher), and those of each function."""
    _, units, unit = (results / f"{case}.units").read_text().strip().split("\t")
    found = {key: count / int(units) for key, count in functions(results / f"{case}.out").items()}
    total = sum(found.values())
    strange = [name for _, name in found if "SimNetwork" in name]
    if total == 0 or strange:
        sys.exit(f"{case}: callgrind did not count what it should: {total} instructions, {strange}")
    own = sum(count for (is_cipher, _), count in found.items() if not is_cipher)
    return unit, {"total": round(total, 1), "own": round(own, 1)}, found


def main():
    mode, results, recorded_path, rustc, valgrind, *cases = sys.argv[1:]
    results, recorded_path = pathlib.Path(results), pathlib.Path(recorded_path)
    measured = {case: measure(results, case) for case in cases}

    if mode == "functions":
        for case, (unit, figures, found) in measured.items():
            print(f"{case}: {figures['total']} instructions per {unit}")
            for (_, name), count in sorted(found.items(), key=lambda item: -item[1])[:16]:
                print(f"  {count:8.1f}  {name[:120]}")
        return

    recorded = json.loads(recorded_path.read_text()) if recorded_path.exists() else {"cases": {}}
    before = recorded["cases"]
    tools = {"rustc": rustc, "valgrind": valgrind}
    if mode == "compare" and any(recorded.get(tool) != version for tool, version in tools.items()):
        print(f"Recorded with {recorded.get('rustc')} and {recorded.get('valgrind')}, now {rustc} and {valgrind}.")

    print(f"{'case':22}{'instructions per':22}{'':6}{'now':>10}{'recorded':>10}{'change':>10}")
    risen, fallen = [], []
    for case, (unit, figures, _) in measured.items():
        for kind, now in figures.items():
            then = before.get(case, {}).get(kind)
            change = now / then - 1 if then else None
            if change is None or change > RISE_MAX:
                risen.append(f"{case} {kind}")
            elif change < -RISE_MAX:
                fallen.append(f"{case} {kind}")
            shown = "new" if change is None else f"{change * 100:+.2f} %"
            print(f"{case:22}{unit:22}{kind:6}{now:>10.1f}{then or '-':>10}{shown:>10}")
    print("total: all instructions; own: without those of the cipher and its hash.")

    if mode == "record":
        figures = {case: {"unit": unit, **figures} for case, (unit, figures, _) in measured.items()}
        recorded_path.write_text(json.dumps({**tools, "cases": figures}, indent=2) + "\n")
        print(f"Recorded in {recorded_path}.")
        return
    if fallen:
        print(f"Cheaper by more than {RISE_MAX:.0%}: {', '.join(fallen)}. Record it: scripts/instructions --record")
    if risen:
        sys.exit(f"Dearer by more than {RISE_MAX:.0%}, or not recorded: {', '.join(risen)}.")


main()
