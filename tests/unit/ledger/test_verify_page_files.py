"""The verify page takes no file for a policy unless told so, and shows the verdict on the last files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import pytest

PAGE = (files("salus.ledger") / "verify.html").read_text(encoding="utf-8")
# As much of a browser as the page's second script asks for; verdicts come when the test lets them.
BROWSER = """
const elements = {};
const element = () => new Proxy({ classList: { add() {}, remove() {} }, append() {}, replaceChildren() {},
  addEventListener() {}, querySelector(name) { return this[`inner-${name}`] ??= element(); } }, {});
const document = { getElementById: (id) => elements[id] ??= element(),
  createElement: element, body: element() };
const addEventListener = () => {};
const waiting = [];
class Refusal extends Error { constructor(code) { super(code); this.code = code; } }
const Salus = { STEPS: [], Refusal, sha256: async () => new Uint8Array(32),
  latin: (bytes) => Buffer.from(bytes).toString("latin1"),
  verify: () => new Promise((resolve, reject) => waiting.push((code) => reject(new Refusal(code)))) };
"""
ASKED = """
(async () => {
  const text = (it) => new TextEncoder().encode(it);
  const given = ["# an event\\nquorum none\\n", "c2sp.org/tlog-proof@v1\\n", '{"log":{},"shards":[]}'];
  const kinds = given.map(text).map(kindOf);
  files.network = files.receipt = text("");
  const shown = [show(), show()];
  waiting[1]("newer"); await shown[1];
  waiting[0]("older"); await shown[0];
  const verdict = byId("verdict").querySelector("span").textContent;
  const file = (name, read) => ({ name, arrayBuffer: read });
  const dropped = takeAll([file("folder", async () => { throw new Error("no file"); }),
    file("two.salus", async () => text("c2sp.org/tlog-proof@v1\\n"))], null);
  const whileRead = byId("outcome").hidden;
  await new Promise((resolve) => setTimeout(resolve));
  waiting[2]("two"); await dropped;
  const after = [byId("outcome").hidden, byId("untaken").hidden, byId("untaken").textContent];
  console.log(JSON.stringify([kinds, verdict, whileRead, waiting.length, ...after]));
})();
"""


def asked() -> Any:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: nothing runs the page's script")
    script = re.search(r'<script id="page">\n"use strict";\n(.*?)</script>', PAGE, re.DOTALL)
    assert script is not None
    done = subprocess.run(
        [node, "-e", BROWSER + script[1] + ASKED], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_no_content_makes_a_file_a_policy_and_an_older_verdict_does_not_replace_a_newer() -> None:
    kinds, verdict, *unread = asked()

    assert kinds == ["event", "receipt", "network"]
    assert verdict == "newer: newer"
    # case R13-F6: a folder beside a forged receipt left the verdict on the one before, and nothing was said.
    is_hidden_while_read, verdicts, is_hidden_after, is_silent, told = unread
    assert is_hidden_while_read
    assert verdicts == 3, "what can be read is taken"
    assert is_hidden_after
    assert not is_silent
    assert told.startswith("folder could not be read")
