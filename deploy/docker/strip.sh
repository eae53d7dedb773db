#!/bin/sh
# Makes a base image fit to run what install.sh built: without installers, with a compiled standard library.
set -eu

stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
find / -xdev -depth \( -path '*/site-packages/*' -o -path '*/dist-packages/*' -o -path '*/bin/*' -o -path '*/python-wheels/*' \) \
    \( -name pip -o -name 'pip[0-9.]*' -o -name 'pip-*' -o -name setuptools -o -name 'setuptools-*' -o -name wheel -o -name 'wheel-*' \
    -o -name pkg_resources -o -name _distutils_hack -o -name distutils-precedence.pth \) -exec rm -rf {} +
rm -rf "$stdlib/ensurepip" "$stdlib/idlelib" "$stdlib/test" /var/lib/apt/lists/*
# lib2to3 keeps files in Python 2.
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x /lib2to3/ "$stdlib"
