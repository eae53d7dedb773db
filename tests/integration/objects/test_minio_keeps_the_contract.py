"""The promises of tests/contracts/objects, on real MinIO."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_PROMISES = Path(__file__).parents[2] / "contracts" / "objects" / "test_object_store.py"
_spec = importlib.util.spec_from_file_location("object_store_promises", _PROMISES)
assert _spec is not None
assert _spec.loader is not None
_promises = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_promises)

globals().update({name: value for name, value in vars(_promises).items() if name.startswith("test_")})
