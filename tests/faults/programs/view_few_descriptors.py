"""A viewer that may open only so many more files for a while (argument), and then as many as it likes."""

import json
import os
import resource
import sys
from pathlib import Path

from children import wait_until
from receivers import Viewer, check_stamp, planes_of

with Viewer() as viewer:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + int(sys.argv[1]), hard))
    print(json.dumps("limited"), flush=True)
    wait_until(lambda: viewer.receiver.problem)
    print(json.dumps(viewer.receiver.problem), flush=True)
    sys.stdin.readline()
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    viewer.wait_for(lambda: viewer.streams and viewer.streams[0].received)
    print(json.dumps([check_stamp(plane)[0] for plane in planes_of(viewer.streams[0]).values()]), flush=True)
    viewer.wait_for(lambda: not viewer.receiver.problem)
    print(json.dumps(viewer.receiver.problem), flush=True)
    sys.stdin.readline()
