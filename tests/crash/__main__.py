"""``python -m tests.crash --rounds 200``: SIGKILL at random moments of real sweeps, resumed and held to the truth."""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.crash.rounds import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--start", type=int, default=0, help="the first round's seed")
    parser.add_argument("--jobs", type=int, default=2, help="rounds side by side")
    options = parser.parse_args()
    began = time.monotonic()
    killed = runs = wrong = 0
    outcomes: Counter[str] = Counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        for told in pool.map(play, range(options.start, options.start + options.rounds)):
            killed += told.killed
            runs += told.runs
            wrong += len(told.wrong)
            outcomes.update(told.outcomes)
            sys.stdout.writelines(f"{each}\n" for each in told.wrong)
    listed = ", ".join(f"{name} {count:,}" for name, count in outcomes.most_common())
    sys.stdout.write(
        f"{options.rounds} rounds in {time.monotonic() - began:.0f} s: {killed} SIGKILLs, {runs:,} runs ({listed});"
        f" {wrong} contradictions\n"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
