// The worker of blocks.js: Python, and in it blocks.py, whose methods the page calls.

import { INSIDE, load } from "../figures/playground/web/pyodide.js";

const page = start();

onmessage = async ({ data: { method, given, doing } }) => {
  try {
    const python = await page;
    postMessage({ progress: doing });
    const result = python[method](...given);
    postMessage({ result: result && JSON.parse(result) });
  } catch ({ message }) {
    postMessage({ problem: message.trim().split("\n").pop() });
  }
};

async function start() {
  const module = fetch(new URL("../blocks.py", import.meta.url)).then((response) => response.text());
  const { python } = await load((progress) => postMessage({ progress })).catch(({ message }) => {
    throw new Error(`Python does not load: ${message}`);
  });
  python.FS.writeFile(`${INSIDE}/blocks.py`, await module);
  return python.pyimport("blocks").Page((...shown) => postMessage({ shown }));
}
