#!/bin/sh
# Finds a Python that is new enough and lets it set up .venv (tools/bootstrap.py).
# This is a shell script so that it can also say, in one sentence, that there is none.
set -eu

cd "$(dirname "$0")/.."
for candidate in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        exec "$candidate" tools/bootstrap.py "$@"
    fi
done

found=$(python3 -V 2>/dev/null || echo "no Python at all")
echo "salus: Python 3.11 or newer is needed, and here is $found; PYTHON=/path/to/python names another one." >&2
exit 1
