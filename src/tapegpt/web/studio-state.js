// What the page remembers: in this browser, and in a link. Nothing is sent anywhere: a link's part after # stays with
// whoever opens it. Not here: what is remembered means (studio-settings.js).

const KEY = "tapegpt.";
const PARTS = ["data", "settings", "text"]; // of a state
const PREFIX = "#s=";
const LINK_CHARACTERS = 8000; // longer links are cut by mail and chat programs

export function remember(part, content) {
  try {
    localStorage.setItem(KEY + part, JSON.stringify(content));
  } catch {
    // full or forbidden: the page works all the same
  }
}

// Whether the page was never opened here before; it is told once.
export function isFirstVisit() {
  const known = kept("seen");
  remember("seen", true);
  return !known;
}

// The state of the link that was opened, else what was remembered. A link's is anybody's: not to be trusted.
export async function remembered() {
  const { hash } = location;
  if (hash.startsWith(PREFIX)) history.replaceState(null, "", location.pathname);
  try {
    return hash.startsWith(PREFIX) ? await opened(hash) : Object.fromEntries(PARTS.map((part) => [part, kept(part)]));
  } catch {
    return {};
  }
}

// What was remembered of a part, if anything.
export function kept(part) {
  try {
    return JSON.parse(localStorage.getItem(KEY + part)) ?? undefined;
  } catch {
    return undefined;
  }
}

// The state in the part of a link from # on; throws for one that is damaged.
export async function opened(hash) {
  if (hash.length > 2 * LINK_CHARACTERS) throw new Error("The link is too long."); // a few MB may become GB
  return JSON.parse(await inflate(hash.slice(PREFIX.length)));
}

// The link that holds a state; without the text where that makes it too long, which `whole` tells.
export async function link(state) {
  const base = location.origin + location.pathname + PREFIX;
  const full = base + (await deflate(JSON.stringify(state)));
  const own = state.data.text !== undefined || state.data.corpus !== undefined;
  if (full.length <= LINK_CHARACTERS && state.data.corpus === undefined) return { address: full, whole: true };
  return { address: base + (await deflate(JSON.stringify({ ...state, data: {} }))), whole: !own };
}

async function deflate(text) {
  const bytes = new Uint8Array(await through(new Blob([text]), new CompressionStream("deflate-raw")).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

async function inflate(code) {
  const letters = atob(code.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  return through(new Blob([bytes]), new DecompressionStream("deflate-raw")).text();
}

function through(blob, transformation) {
  return new Response(blob.stream().pipeThrough(transformation));
}
