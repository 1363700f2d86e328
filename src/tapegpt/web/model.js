// A model from what `javascript.py` packs: its kernels as WebAssembly, its parameters, its tokens.
// Not here: anything about a page.

/**
 * @typedef {object} Start How strings begin.
 * @property {string} [prefix] Text, which is split into the longest tokens that there are.
 * @property {Object<string, string>} [labels] A value for each column of labels, of a model that has some.
 *
 * @typedef {object} Drawing How strings are drawn.
 * @property {number} [n] How many.
 * @property {number} [temperature] Higher means more surprising strings; 0 takes the most probable token.
 * @property {number} [maxLength] Tokens at most, by default as many as the block holds; longer strings are cut.
 * @property {number | bigint} [seed] A whole number; by default a random one.
 *
 * @typedef {object} Score
 * @property {number} nats Mean surprise of a token, -log p.
 * @property {number} perplexity Among how many tokens it was as if the model chose.
 * @property {number[]} surprises Those of each token and of the end.
 *
 * @typedef {object} Model
 * @property {(options?: Start & Drawing) => string[]} generate Strings, the same for the same seed and options.
 * @property {(strings: string[], labels?: Object<string, string>) => Score[]} score How surprising strings are.
 * @property {(prefix?: string, labels?: Object<string, string>) => [string, number][]} next
 *   Each token that may follow with its probability, falling; "" is the end.
 * @property {(text: string, labels?: Object<string, string>) => object} read As `views.js` takes it; what it expects
 *   at a position is known until the next string is read.
 * @property {number} steps Of the training, where it is here too.
 * @property {() => void} begin The model as it was before the training.
 * @property {(first: number, count: number) => number[]} train Takes steps; their losses.
 * @property {() => boolean} end The model as it was before `begin`; whether the training has led to just that.
 */

const PAGE = 65536; // bytes by which a memory grows
const TRIES = 10000; // strings that may begin with other labels

/** @returns {Promise<Model>} */
export async function modelOf({ packed, lengths, size, places, room, block, tokens, columns, steps, attention = [] }) {
  const [code, parameters, beginning, documents] = cut(await inflated(packed), lengths);
  const { instance } = await WebAssembly.instantiate(code, { env: Math });
  const { memory, __heap_base: base, prepare, seed, generate, read, train } = instance.exports;
  const start = base.value;
  memory.grow(Math.ceil((start + size) / PAGE));
  const at = (name, kind, length) => new kind(memory.buffer, start + places[name], length);
  const load = (numbers) => {
    at("shared", Uint8Array, numbers.length).set(numbers);
    prepare(start);
  };
  load(parameters);

  const labels = columns.flatMap(([name, values]) => values.map((value) => [name, value])); // whose ids follow the tokens'
  const names = [...tokens, ...labels.map((label) => label.join("=")), ""]; // by id
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const longest = tokens.reduce((most, token) => Math.max(most, token.length), 1);

  /** The labels that are given, by their columns. */
  function known(given) {
    const other = Object.keys(given).find((column) => !columns.some(([name]) => name === column));
    if (other !== undefined) throw new RangeError(`the model has no column ${JSON.stringify(other)} of labels`);
    return new Map(Object.entries(given));
  }

  /** The id of the label that is given for a column. */
  function labelId([name, values], given) {
    const place = labels.findIndex((label) => label[0] === name && label[1] === given.get(name));
    if (place < 0) throw new RangeError(`${name} must be one of ${values.join(", ")}, not ${given.get(name)}`);
    return tokens.length + place;
  }

  function check(what, number, least, most) {
    if (!(number >= least && number <= most)) throw new RangeError(`${what} must be from ${least} to ${most}, not ${number}`);
  }

  const most = block - columns.length; // tokens of a string that the block holds
  const headOf = (given) => columns.map((column) => labelId(column, given));

  /** The ids of the longest tokens, one after the other. */
  function idsOf(text) {
    const found = [];
    for (let from = 0; from < text.length; ) {
      let end = Math.min(from + longest, text.length);
      while (end > from && !ids.has(text.slice(from, end))) end--;
      const unknown = JSON.stringify(String.fromCodePoint(text.codePointAt(from)));
      if (end === from) throw new RangeError(`the model does not know ${unknown}`);
      found.push(ids.get(text.slice(from, end)));
      from = end;
    }
    return found;
  }

  /** Writes the tokens that a string has or begins with; how many. */
  function put(head, text) {
    const all = [...head, ...idsOf(text)];
    if (all.length > room) throw new RangeError(`a string may have ${room} tokens, not ${all.length}`);
    at("ids", Uint32Array, all.length).set(all);
    return BigInt(all.length);
  }

  /** The next string, as ids, that begins with those that were put. */
  function drawn(begun, most, temperature) {
    generate(start, begun, BigInt(most), Math.max(temperature, 1e-9));
    return [...at("ids", Uint32Array, Number(at("length", BigInt64Array, 1)[0]))];
  }

  /** A label of each column, as strings have them beside those that are given. */
  function drawnHead(given, temperature) {
    if (columns.every(([name]) => given.get(name))) return headOf(given);
    const wanted = columns.map((column) => given.get(column[0]) && labelId(column, given));
    const isRight = (id, column) => (wanted[column] ? id === wanted[column] : labels[id - tokens.length]?.[0] === columns[column][0]);
    return accepted(() => drawn(0n, columns.length, temperature), (head) => head.length === columns.length && head.every(isRight));
  }

  /** The first that is as it has to be; a model that is well trained does little else. */
  function accepted(draw, isRight) {
    for (let tries = 0; tries < TRIES; tries++) {
      const found = draw();
      if (isRight(found)) return found;
    }
    throw new RangeError(`none of ${TRIES} strings has these labels`);
  }

  /** Surprises of a string's tokens and of its end; the rows of probabilities lie so far apart. */
  function surprisesOf(text, given = {}, apart = 0) {
    const length = put(headOf(known(given)), text);
    read(start, length, BigInt(apart));
    return [...at("surprises", Float64Array, Number(length) + 1)].slice(columns.length);
  }

  /** Tokens with the probabilities of row number t, falling. */
  function likely(t) {
    const shares = at("rows", Float64Array, names.length * (t + 1)).subarray(names.length * t);
    return [...shares].map((share, id) => [names[id], share]).sort((a, b) => b[1] - a[1]);
  }

  /** How much each head of each layer looks at what, from so many positions of a string that the block holds. */
  function weightsOf(length) {
    if (length > most) return [];
    const begun = columns.length + 1; // tokens before the text, which count as its start
    return attention.map(([heads, exponentials, apart, inverses, step]) => {
      const work = at("work", Float64Array, inverses + step * heads * block);
      const row = (head, t) => {
        const number = head * block + t + begun - 1;
        const [from, inverse] = [exponentials + apart * number, work[inverses + step * number]];
        const weights = Array.from(work.subarray(from, from + t + begun), (exponential) => exponential * inverse);
        return [begun * mean(weights.slice(0, begun)), ...weights.slice(begun)];
      };
      return Array.from({ length: heads }, (_, head) => Array.from({ length }, (_, t) => row(head, t)));
    });
  }

  const taught = () => at("taught", Uint8Array, parameters.length);
  const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;

  return {
    generate({ n = 20, prefix = "", labels: given = {}, temperature = 0.5, maxLength = most, seed: by = random() } = {}) {
      check("maxLength", maxLength, idsOf(prefix).length, room - columns.length);
      check("temperature", temperature, 0, 1000);
      const [wanted, words] = [known(given), wordsOf(by)];
      if (4 * words.length > places.random - places.key) throw new RangeError("a seed of so many digits is too long");
      at("key", Uint32Array, words.length).set(words);
      seed(start, BigInt(words.length));
      return Array.from({ length: n }, () => {
        const head = drawnHead(wanted, temperature);
        const text = accepted(
          () => drawn(put(head, prefix), maxLength + head.length, temperature).slice(head.length),
          (text) => text.every((id) => id < tokens.length),
        );
        return text.map((id) => names[id]).join("");
      });
    },
    score(strings, given) {
      return strings.map((text) => {
        const surprises = surprisesOf(text, given);
        return { nats: mean(surprises), perplexity: Math.exp(mean(surprises)), surprises };
      });
    },
    next(prefix = "", given) {
      surprisesOf(prefix, given);
      return likely(0);
    },
    read(text, given) {
      const surprises = surprisesOf(text, given, names.length);
      const split = idsOf(text).map((id) => names[id]);
      const next = (t) => likely(columns.length + t);
      const target_p = surprises.map((nats) => Math.exp(-nats));
      const [inputs, targets] = [["", ...split], [...split, ""]];
      const seen = { attention: weightsOf(targets.length), next, target_p };
      return { text, inputs, targets, surprises, loss: mean(surprises), ...seen };
    },
    steps,
    begin() {
      at("gradients", Uint8Array, places.documents - places.gradients).fill(0);
      at("documents", Uint8Array, documents.length).set(documents);
      taught().set(beginning);
      load(beginning);
    },
    train(first, count) {
      train(start, BigInt(first), BigInt(count));
      load(taught());
      return [...at("losses", Float64Array, count)];
    },
    end() {
      const isSame = taught().every((byte, index) => byte === parameters[index]);
      load(parameters);
      return isSame;
    },
  };
}

/** The parts of some bytes, which are so long. */
function cut(bytes, lengths) {
  let end = 0;
  return lengths.map((length) => bytes.subarray(end, (end += length)));
}

async function inflated(packed) {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** 32-bit words of a whole number's magnitude, the lowest first, as Python's `random.seed` takes it. */
function wordsOf(number) {
  let left = BigInt(number);
  if (left < 0n) left = -left;
  const words = [];
  do words.push(Number(left & 0xffffffffn));
  while ((left >>= 32n));
  return words;
}

const random = () => Math.floor(Math.random() * 2 ** 32);
