// The worker of a page without a server: the studio's application in Python, which answers requests. Not here: how the
// page asks (studio-static.js), how Python is loaded (pyodide.js).

import { load } from "./pyodide.js";

const studio = start();

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

async function start() {
  const { python, settings } = await load((progress) => postMessage(progress));
  python.runPython("from tapegpt.machine import notes; notes.begin(settled=True)"); // no other code runs here
  const { Browser } = python.pyimport("tapegpt.studio.browser");
  return { python, browser: Browser(JSON.stringify(settings.start), (line) => console.error(line)) };
}
