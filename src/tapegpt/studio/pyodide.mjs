// node pyodide.mjs PACKAGE PLACES PROGRAM: run Python in Pyodide; the value of its last line is the exit code.
// PACKAGE is the folder of npm's package pyodide, PLACES maps paths in Pyodide to folders of this machine, as JSON.
import { pathToFileURL } from "node:url";

const [, , folder, places, program] = process.argv;
const { loadPyodide } = await import(pathToFileURL(`${folder}/pyodide.mjs`));
const pyodide = await loadPyodide();
for (const [path, place] of Object.entries(JSON.parse(places))) pyodide.mountNodeFS(path, place);
try {
  process.exitCode = await pyodide.runPythonAsync(program);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
