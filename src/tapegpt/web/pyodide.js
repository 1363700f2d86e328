// Python in a worker, by Pyodide, with this package: both come as static.py's folder says, which has this file too. Not
// here: what Python is to do (studio-worker.js).

const MEGABYTE = 1e6;

export const INSIDE = "/tapegpt"; // where modules are, of Python's file system in memory

const folder = new URL("../", import.meta.url);

// Python with the wheels that the settings name, and these settings; `tell` is called with how far that is.
export async function load(tell, ...wheels) {
  const plain = fetch;
  self.fetch = counting(plain, tell);
  const settings = await (await fetch(new URL("studio.json", folder))).json();
  const home = new URL(settings.pyodide, folder).href;
  const packages = fetch(new URL("tapegpt.zip", folder)).then((response) => response.arrayBuffer());
  const { loadPyodide } = await import(`${home}pyodide.mjs`);
  const python = await loadPyodide({ indexURL: home });
  const named = wheels.map((name) => (settings[name].endsWith(".whl") ? home + settings[name] : settings[name]));
  await python.loadPackage(named, { messageCallback: () => {} });
  self.fetch = plain;
  tell("Starting Python …");
  python.unpackArchive(await packages, "zip", { extractDir: INSIDE });
  python.runPython(`import sys; sys.path.insert(0, "${INSIDE}")`);
  return { python, settings };
}

// A `fetch` that tells how much has come.
function counting(plain, tell) {
  let bytes = 0;
  return async (...request) => {
    const response = await plain(...request);
    const count = new TransformStream({
      transform(piece, controller) {
        bytes += piece.length;
        tell(`Loading Python … ${(bytes / MEGABYTE).toFixed(0)} MB`);
        controller.enqueue(piece);
      },
    });
    return new Response(response.body.pipeThrough(count), response);
  };
}
