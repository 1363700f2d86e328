// What is asked of the server, and its answers. Not here: what is done with them.

async function send(method, path, body, { signal, stream = false } = {}) {
  const raw = body instanceof Blob;
  const headers = { Accept: stream ? "text/event-stream" : "application/json" };
  if (body !== undefined) headers["Content-Type"] = raw ? "application/octet-stream" : "application/json";
  const content = raw || body === undefined ? body : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: content, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Error("The studio does not answer: is tapegpt studio still running?");
  }
  if (!response.ok) throw new Error(await messageOf(response));
  return response;
}

async function messageOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The studio answered with status ${response.status}.`;
  }
}

export async function get(path, options) {
  return (await send("GET", path, undefined, options)).json();
}

export async function post(path, body, options) {
  return (await send("POST", path, body, options)).json();
}

// Trains; `onProgress` gets what is known on the way. Aborting the signal ends the training.
export async function train(request, onProgress, signal) {
  const response = await send("POST", "/api/runs", request, { signal, stream: true });
  for await (const { event, data } of events(response.body)) {
    if (event === "progress") onProgress(data);
    if (event === "done") return data;
    if (event === "error") throw new Error(data.error.message);
  }
  throw new Error("The training ended before its time: move a slider to train anew.");
}

// The server-sent events of a response.
async function* events(body) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
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
