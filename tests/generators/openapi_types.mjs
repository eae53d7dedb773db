// Generates types from OpenAPI documents: node openapi_types.mjs FOLDER DOCUMENT…
import { mkdirSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import openapiTS, { astToString } from "openapi-typescript";

const [folder, ...documents] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
for (const document of documents) {
  const types = astToString(await openapiTS(pathToFileURL(resolve(document))));
  writeFileSync(join(folder, `${basename(document, ".json")}.ts`), types);
}
