"""The page under /docs that shows a service's OpenAPI document: everything comes from the service itself.

Swagger UI is in `swagger-ui`, as npm's `swagger-ui-dist` has it (README.md says which, and how to change it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter, Response

# Scripts and styles are files of ours, none is in the page; images are in the styles, as `data:`.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}
# They change with the service's version only.
_ASSET_HEADERS = {"Cache-Control": "public, max-age=3600"}
_HERE = files(__name__)
_ASSETS = {
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


def routes(*, name: str, version: str) -> APIRouter:
    """Return the routes of the page and of what it loads; they are not in the OpenAPI document themselves."""
    router = APIRouter(include_in_schema=False)
    template = (_HERE / "page.html").read_text(encoding="utf-8")
    page = template.replace("{name}", name).replace("{version}", version)

    @router.get("/docs")
    async def get_docs() -> Response:
        return Response(page, media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)

    for asset, (place, media_type) in _ASSETS.items():
        router.add_api_route(f"/docs/{asset}", _serving(place, media_type))
    return router


def _serving(place: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def get_asset() -> Response:
        # Read each time: a page is seldom opened, and 2 MB would stay in memory for ever.
        data = (_HERE / place).read_bytes()
        return Response(data, media_type=media_type, headers=_ASSET_HEADERS)

    return get_asset
