#!/bin/sh
# Builds Salus from the folder it is run in into a new virtual environment: sh deploy/docker/install.sh TARGET
# The Dockerfile runs it; where there is no container engine a test does. What builds stays outside TARGET.
set -eu

target=$1
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

python3 -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --require-hashes -r requirements-bootstrap.txt
uv="$tools/bin/uv"
"$uv" pip install --quiet --python "$tools/bin/python" --require-hashes -r requirements-build.lock

python3 -m venv --without-pip "$target"
"$uv" pip install --quiet --python "$target/bin/python" --link-mode copy --require-hashes -r requirements-runtime.lock
for package in libs/* services/*; do
    (cd "$package" && "$tools/bin/python" -m hatchling build --target wheel --directory "$tools/wheels" >"$tools/log" 2>&1) \
        || { cat "$tools/log" >&2; exit 1; }
done
"$uv" pip install --quiet --python "$target/bin/python" --link-mode copy --no-deps "$tools"/wheels/*.whl

# Of Arrow what Salus never loads: headers, tests, and Flight's library.
find "$target/lib" -path '*/site-packages/pyarrow/*' \
    \( -name include -o -name tests -o -name '*flight*' \) -prune -exec rm -rf {} +
# A read-only file system keeps no bytecode: without this each start would compile everything anew.
"$target/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$target/lib"
