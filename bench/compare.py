#!/usr/bin/env python3
"""Compares corelane now with corelane at another commit: the same workload of corelane-bench from both, in turn.

    bench/compare.py BASE WORKLOAD [--rounds N] [-- OPTIONS OF corelane-bench]

Builds BASE in a work tree of its own under target/compare. Prints, for each variant, system and metric, the median of both and their
ratio, with the ratios of the single rounds. The systems that are not corelane are the same code in both: how far their ratio is from
1 says how far the machine can be trusted. Needs a workload, and options, that BASE knows too.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BENCH = "release/corelane-bench"


def build(tree, target):
    command = ["cargo", "build", "--release", "--quiet", "-p", "corelane-bench", "--target-dir", str(target)]
    subprocess.run(command, cwd=tree, check=True)
    return target / BENCH


def base_tree(commit):
    tree = ROOT / "target/compare" / commit
    if not tree.exists():
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True, stdout=sys.stderr)
    return tree


def measure(program, arguments):
    run = subprocess.run([program, *arguments, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    rows = map(json.loads, run.stdout.splitlines())
    # A system stands there once for each of its references.
    return {(row["variant"], row["system"], row["metric"]): row["value"] for row in rows if row["value"] is not None}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("workload")
    parser.add_argument("--rounds", type=int, default=7)
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, options = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    base = subprocess.run(["git", "rev-parse", "--short", args.base], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    programs = {"base": build(base_tree(base), ROOT / "target/compare/build"), "now": build(ROOT, ROOT / "target")}
    rounds = []
    for number in range(args.rounds):
        # Each first in turn: a machine that slows down does so for both.
        order = ["base", "now"] if number % 2 == 0 else ["now", "base"]
        rounds.append({name: measure(programs[name], [args.workload, *options]) for name in order})
    print(f"{args.workload}: {base} and now, {args.rounds} rounds in turn, options {options}")
    shared = [key for key in rounds[0]["now"] if all(key in got for one in rounds for got in one.values())]
    for variant, system, metric in shared:
        pairs = [(one["base"][variant, system, metric], one["now"][variant, system, metric]) for one in rounds]
        before, after = (statistics.median(side) for side in zip(*pairs))
        single = " ".join(f"{now / base:.2f}" for base, now in pairs)
        print(f"  {variant:10} {system:12} {metric:12} {before:14.4g} {after:14.4g}  ratio {after / before:.3f}  ({single})")


if __name__ == "__main__":
    main()
