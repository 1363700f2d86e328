// Python in a worker, by Pyodide, with this package: both come as static.py's folder says, which has this file too. Not
// here: what Python is to do (studio-worker.js).

const MEGABYTE = 1e6;

export const INSIDE = "/tapegpt"; // where modules are, of Python's file system in memory

const folder = new URL("../", import.meta.url);

// Python with all packages, and the folder's settings; `tell` is called with how far that is.
export async function load(tell) {
  const plain = fetch;
  self.fetch = counting(plain, tell);
  const packages = unpacked(new URL("tapegpt.pack", folder));
  const settings = await (await fetch(new URL("studio.json", folder))).json();
  const home = new URL(settings.pyodide, folder).href;
  const { loadPyodide } = await import(`${home}pyodide.mjs`);
  const env = { TAPEGPT_CACHE_DIR: `${INSIDE}/cache` };
  const python = await loadPyodide({ indexURL: home, env, packages: settings.packages });
  self.fetch = plain;
  tell("Starting Python …");
  for (const [path, content] of await packages) {
    python.FS.mkdirTree(`${INSIDE}/${path}`.replace(/\/[^/]*$/, ""));
    python.FS.writeFile(`${INSIDE}/${path}`, content, { mode: 0o600, canOwn: true }); // others' code is not trusted
  }
  python.runPython(`import sys; sys.path.insert(0, "${INSIDE}")`);
  return { python, settings };
}

// The files of a tar archive, as [path, content]: Pyodide's own unpackArchive takes 0.4 s, this 0.02 s.
async function unpacked(address) {
  const { body } = await fetch(address);
  const bytes = new Uint8Array(await new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
  const text = (start, length) => new TextDecoder().decode(bytes.subarray(start, start + length)).replace(/\0.*/s, "");
  const files = [];
  for (let head = 0, size; bytes[head]; head += 512 * (1 + Math.ceil(size / 512))) {
    size = parseInt(text(head + 124, 12), 8);
    const path = [text(head + 345, 155), text(head, 100)].filter(Boolean).join("/");
    files.push([path, bytes.subarray(head + 512, head + 512 + size)]);
  }
  return files;
}

// A `fetch` that tells how much has come. The response stays the browser's own, whose compiled code the browser keeps.
function counting(plain, tell) {
  let bytes = 0;
  let told = "";
  const count = ({ length }) => {
    bytes += length;
    const now = `Loading Python … ${(bytes / MEGABYTE).toFixed(0)} MB`;
    if (now !== told) tell((told = now));
  };
  return async (...request) => {
    const response = await plain(...request);
    response.clone().body.pipeTo(new WritableStream({ write: count })).catch(() => {}); // whoever asked sees it too
    return response;
  };
}
