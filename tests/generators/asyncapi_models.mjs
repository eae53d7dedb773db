// Generates models of every message in an AsyncAPI document: node asyncapi_models.mjs DOCUMENT LANGUAGE FOLDER
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GoGenerator, JavaGenerator, PythonGenerator, TypeScriptGenerator } from "@asyncapi/modelina";

const generators = {
  go: [GoGenerator, { packageName: "salus" }, "go"],
  java: [JavaGenerator, { packageName: "salus" }, "java"],
  python: [PythonGenerator, {}, "py"],
  typescript: [TypeScriptGenerator, { moduleSystem: "ESM" }, "ts"],
};
const [document, language, folder] = process.argv.slice(2);
const [Generator, options, ending] = generators[language];
mkdirSync(folder, { recursive: true });
const models = await new Generator().generateCompleteModels(JSON.parse(readFileSync(document, "utf8")), options);
for (const model of models) {
  writeFileSync(join(folder, `${model.modelName}.${ending}`), model.result);
}
console.log(JSON.stringify(models.map((model) => model.modelName)));
