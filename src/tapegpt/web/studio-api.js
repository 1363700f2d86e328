// What is asked of the server, and its answers. They come as events, so that a refusal is an answer like any other and no
// failure that the browser logs. Not here: what is done with them.

import { ask, silence } from "./studio-transport.js";

class Refusal extends Error {}

async function send(method, path, body, { signal, onProgress } = {}) {
  const raw = body instanceof Blob;
  const headers = { Accept: "text/event-stream" };
  if (body !== undefined) headers["Content-Type"] = raw ? "application/octet-stream" : "application/json";
  const content = raw || body === undefined ? body : JSON.stringify(body);
  try {
    for await (const { event, data } of events(await ask(path, { method, headers, body: content, signal }))) {
      if (event === "done") return data;
      if (event === "error") throw new Refusal(data.error.message);
      onProgress(data);
    }
  } catch (error) {
    if (signal?.aborted || error instanceof Refusal) throw error;
  }
  throw new Error(silence);
}

export function get(path, options) {
  return send("GET", path, undefined, options);
}

// Fields as the part of an address after "?": of a list each as one.
export function query(fields) {
  return new URLSearchParams(Object.entries(fields).flatMap(([name, value]) => [value].flat().map((each) => [name, each])));
}

// `onProgress` gets what is known on the way; aborting the signal ends what was asked for.
export function post(path, body, options) {
  return send("POST", path, body, options);
}

// The server-sent events of a response; what does not let the request in answers without.
async function* events(response) {
  if (!response.ok) yield { event: "error", data: await response.json() };
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(part.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
      if (fields.data) yield { event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

// Does one thing at a time: a new task aborts the one before, whose result is then undefined. There is no queue.
export function newest() {
  let controller = new AbortController();
  return async (task) => {
    controller.abort();
    const own = (controller = new AbortController());
    try {
      const result = await task(own.signal);
      return own.signal.aborted ? undefined : result;
    } catch (error) {
      if (own.signal.aborted) return undefined;
      throw error;
    }
  };
}
