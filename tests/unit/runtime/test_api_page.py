"""The page under /docs comes from the service alone, and its policy forbids anything else."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from tests.unit.runtime.test_response_headers import client_of
from tools.openapi_documents import apps

APPS = apps()


@pytest.mark.parametrize("service", sorted(APPS))
async def test_all_that_the_page_loads_is_served_by_the_service(service: str) -> None:
    async with client_of(APPS[service]) as http:
        page = await http.get("/docs")
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        answers = {place: await http.get(f"/{place}") for place in loaded}

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f"Salus <strong>{service}</strong>" in page.text
    assert "{" not in page.text
    assert len(set(loaded)) == 6
    for place, answer in answers.items():
        # Relative, so that the page works behind a front that puts the service below a path.
        assert not place.startswith(("/", "http"))
        assert answer.status_code == 200, place
    kinds = {answer.headers["content-type"].partition(";")[0] for answer in answers.values()}
    assert kinds == {"text/css", "text/javascript", "image/svg+xml", "application/json"}


async def test_scripts_and_styles_run_from_files_of_the_service_only() -> None:
    # Case security.md, low: /docs loaded scripts from elsewhere, without a policy.
    async with client_of(APPS["identity"]) as http:
        page = await http.get("/docs")
        other = await http.get("/redoc")

    parts = page.headers["content-security-policy"].split(";")
    policy = {part.split()[0]: part.split()[1:] for part in parts}
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert "unsafe" not in page.headers["content-security-policy"]
    # Nothing in the page needs more: no script, style or handler is written into it.
    assert re.findall(r"<script[^>]*>[^<]|<style| style=| on[a-z]+=", page.text) == []
    assert other.status_code == 404


def test_the_licences_of_what_is_shipped_are_shipped() -> None:
    shipped = files("salus.runtime.api_page") / "swagger-ui"

    assert "Apache License" in (shipped / "LICENSE").read_text(encoding="utf-8")
    assert "SmartBear" in (shipped / "NOTICE").read_text(encoding="utf-8")
    assert (shipped / "swagger-ui-bundle.js.LICENSE.txt").is_file()
    assert "sourceMappingURL=swagger" not in (shipped / "swagger-ui-bundle.js").read_text(encoding="utf-8")
