"""The first process of a container: starts the service, passes its end on, and reaps what is left behind.

Run with nothing but the standard library, inside: ``python -I -S container_init.py COMMAND…``.
"""

import os
import sys


def main() -> None:
    """Start ``sys.argv[1:]``, wait for it, end as it ended."""
    child = os.fork()
    if child == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            # As shells tell it: 128 + n for an end by signal n.
            os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
