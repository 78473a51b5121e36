"""A thief: opens the file that is named, and says how that went and when, in nanoseconds of the monotonic clock."""

import json
import sys
import time

began = time.monotonic_ns()
number = 0
try:
    open(sys.argv[1], "rb", buffering=0)  # noqa: PTH123, SIM115 - what is timed is this call alone
except OSError as error:
    number = error.errno or -1
ended = time.monotonic_ns()
sys.stdout.write(json.dumps({"errno": number, "began": began, "ended": ended}))
