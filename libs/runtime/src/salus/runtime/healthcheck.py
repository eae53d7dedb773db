"""Asks the service in this container how it is: `python -m salus.runtime.healthcheck /readyz`.

Imports next to nothing, for a container engine starts it every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 8.0
OK = 200


def main(path: str) -> int:
    """Print the answer and return the exit code: 0 if the service says yes."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(os.environ["SALUS_HTTP_PORT"]), timeout=TIMEOUT_S
    )
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except OSError as error:
        text, status = f"no answer: {type(error).__name__}", 0
    else:
        status = answer.status
    sys.stdout.write(f"{text}\n")
    return int(status != OK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
