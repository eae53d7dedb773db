// Parses an AsyncAPI document with AsyncAPI's own parser, and prints what it has to say: node asyncapi_check.mjs DOCUMENT
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
for (const { severity, code, message, path } of diagnostics) {
  console.log(JSON.stringify({ severity, code, message, at: path.join("/") }));
}
process.exit(document === undefined ? 1 : 0);
