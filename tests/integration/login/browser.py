"""Somebody with a browser: she follows the redirects of a provider, and fills in its forms."""

from __future__ import annotations

import re

import httpx

STEPS_MAX = 20


async def log_in(url: str, name: str, cookies: httpx.Cookies | None = None) -> str:
    """Log in at the address that `salus login` shows, and return where the browser is sent then.

    Whose `cookies` are kept is signed on afterwards.
    """
    async with httpx.AsyncClient(trust_env=False, timeout=60) as browser:
        if cookies is not None:
            browser.cookies.jar = cookies.jar
        answer = await browser.get(url)
        for _ in range(STEPS_MAX):
            if answer.is_redirect:
                target = answer.url.join(answer.headers["location"])
                if target.path == "/callback":
                    return str(target)
                answer = await browser.get(target)
                continue
            action = re.search(r'action="([^"]+)"', answer.text)
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            assert action is not None, answer.text
            assert prompt is not None, answer.text
            form = {"prompt": prompt[1]} | ({"login": name, "password": "x"} if prompt[1] == "login" else {})
            answer = await browser.post(answer.url.join(action[1]), data=form)
    raise AssertionError("the provider does not come to an end")
