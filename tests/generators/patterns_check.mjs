// Compiles patterns as ECMA 262 does with the `u` flag, and prints the verdict on each text: node patterns_check.mjs FILE
// The file has a list of [pattern, texts]; printed is a list of lists of booleans.
import { readFileSync } from "node:fs";

const asked = JSON.parse(readFileSync(process.argv[2], "utf8"));
console.log(JSON.stringify(asked.map(([pattern, texts]) => texts.map((text) => new RegExp(pattern, "u").test(text)))));
