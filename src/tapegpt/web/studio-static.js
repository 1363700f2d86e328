// How the page's requests reach the studio where no server is: as messages to a worker, in which Python runs. Each has a
// channel of its own, whose pieces become a `Response`, as of HTTP. Not here: the worker (studio-worker.js).

import { complain, find } from "./studio-dom.js";

export let silence = "Python does not answer: load the page again.";

const worker = start();

// A worker of a blob has the page's policy: it cannot send anything anywhere either.
function start() {
  const address = new URL("./studio-worker.js", import.meta.url);
  const script = new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" });
  const made = new Worker(URL.createObjectURL(script), { type: "module" });
  made.onmessage = ({ data }) => find("timing").replaceChildren(data);
  return made;
}

// The file of the model that the folder begins with, if there is one.
export async function firstModel() {
  const { model } = await (await fetch("studio.json")).json();
  return model && (await fetch(model)).blob();
}

// The `Response` to a request; aborting its signal ends it.
export async function ask(path, { method = "GET", headers = {}, body, signal } = {}) {
  const content = new Uint8Array(await new Response(body).arrayBuffer());
  signal?.throwIfAborted();
  const { port1: port, port2 } = new MessageChannel();
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  let response = null;
  return new Promise((resolve, reject) => {
    const leave = (reason) => {
      port.postMessage(null);
      writer.abort(reason).catch(() => {});
      reject(reason);
    };
    signal?.addEventListener("abort", () => leave(signal.reason), { once: true });
    port.onmessage = ({ data: { problem, status, headers: sent, content: piece, more } }) => {
      if (problem) {
        silence = `Python does not answer (${problem}): load the page again.`;
        return leave(new Error(problem));
      }
      resolve((response ??= new Response(status === 204 ? null : readable, { status, headers: sent })));
      writer.write(piece).catch(() => {});
      if (!more) {
        writer.close().catch(() => {});
        port.close();
      }
    };
    worker.postMessage({ path, method, headers, content }, [port2]);
  });
}

// A link to a file of the studio's leads nowhere here: the file is asked for, and saved from memory.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[download]");
  const path = link?.getAttribute("href");
  if (!path?.startsWith("/api/")) return;
  event.preventDefault();
  const response = await ask(path);
  if (!response.ok) return complain("load-error", new Error((await response.json()).error.message));
  const saved = document.createElement("a");
  saved.download = response.headers.get("Content-Disposition").match(/filename="(.*)"/)[1];
  saved.href = URL.createObjectURL(await response.blob());
  saved.click();
  setTimeout(() => URL.revokeObjectURL(saved.href), 60_000);
});
