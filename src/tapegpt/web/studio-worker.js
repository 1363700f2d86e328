// The worker of a page without a server: Python, and the studio's application in it, which answers requests. Not here:
// how the page asks (studio-static.js).

const MEGABYTE = 1e6;
const INSIDE = "/tapegpt"; // of Python's file system, in memory

const folder = new URL("../", import.meta.url);
const studio = load();

// Until Python runs the messages wait in their channels.
onmessage = async ({ data: { path, method, headers, content }, ports: [port] }) => {
  try {
    const { python, browser } = await studio;
    const post = (status, sent, piece, more) =>
      port.postMessage({ status, headers: sent.toJs(), content: piece.toJs(), more });
    const leave = browser.ask(method, path, python.toPy(headers), python.toPy(content), post);
    port.onmessage = () => leave();
  } catch ({ message }) {
    port.postMessage({ problem: message });
  }
};

async function load() {
  const plain = fetch;
  self.fetch = counting(plain);
  const settings = await (await fetch(new URL("studio.json", folder))).json();
  const home = new URL(settings.pyodide, folder).href;
  const packages = fetch(new URL("tapegpt.zip", folder)).then((response) => response.arrayBuffer());
  const { loadPyodide } = await import(`${home}pyodide.mjs`);
  const python = await loadPyodide({ indexURL: home });
  const msgspec = settings.msgspec.endsWith(".whl") ? home + settings.msgspec : settings.msgspec;
  await python.loadPackage(msgspec, { messageCallback: () => {} });
  self.fetch = plain;
  postMessage("Starting Python …");
  python.unpackArchive(await packages, "zip", { extractDir: INSIDE });
  python.runPython(`import sys; sys.path.insert(0, "${INSIDE}")`);
  const { Browser } = python.pyimport("tapegpt.studio.browser");
  return { python, browser: Browser(JSON.stringify(settings.start), (line) => console.error(line)) };
}

// A `fetch` that tells the page how much has come.
function counting(plain) {
  let bytes = 0;
  return async (...request) => {
    const response = await plain(...request);
    const count = new TransformStream({
      transform(piece, controller) {
        bytes += piece.length;
        postMessage(`Loading Python … ${(bytes / MEGABYTE).toFixed(0)} MB`);
        controller.enqueue(piece);
      },
    });
    return new Response(response.body.pipeThrough(count), response);
  };
}
