"""sigma-rule-matcher, run in an environment of its own: reads rules and events from standard input, says what it took.

Its pySigma is another major version than ours, so that both can't be in one environment.
"""

import json
import sys
import time

from sigma.rule import SigmaRule  # type: ignore[import-not-found,unused-ignore]
from sigma_rule_matcher import RuleMatcher  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    """Match every event against every rule."""
    given = json.load(sys.stdin)
    matchers = [RuleMatcher(SigmaRule.from_yaml(text)) for text in given["rules"]]
    began, hits = time.perf_counter(), 0
    for event in given["events"]:
        for matcher in matchers:
            hits += bool(matcher.match(event))
    print(json.dumps({"seconds": time.perf_counter() - began, "hits": hits}))


if __name__ == "__main__":
    main()
