// Files that are opened or dropped: models as they are, data as the server reads them, with what there is to choose: the
// columns of a table, the encoding, what separates strings. Not here: what becomes of them (studio.js).

import { newest, post, query } from "./studio-api.js";
import { asksForText, complain, find, options, optionsOrText, question, show } from "./studio-dom.js";

const SEPARATORS = { ",": "commas", ";": "semicolons", "\\t": "tabs", "|": "vertical bars" };
const DELIMITERS = { line: "line ends", blank: "blank lines", none: "none: one string" };
const FORMATS = { text: "text", csv: "CSV", tsv: "TSV", jsonl: "JSON lines", json: "JSON" };

// `onModel(file)` loads a model; `onCorpus(corpus, text)` takes data, with their text where it is short enough to edit;
// `onSelect({ max_length })` says which of their strings are wanted.
export function uploadSection({ onModel, onCorpus, onSelect }) {
  let file = null;
  let choices = {};
  let encodings = []; // that fit where UTF-8 does not
  const reading = newest();

  async function open(given) {
    complain("load-error");
    complain("data-error");
    try {
      if (await isModel(given)) await onModel(given);
      else await read(given, {});
    } catch (error) {
      complain("load-error", error);
    }
  }

  async function read(given, chosen) {
    const asked = query({ name: given.name, ...chosen });
    const found = await reading((signal) => post(`/api/files?${asked}`, given, { signal }));
    if (!found) return;
    if (given !== file || !chosen.encoding) encodings = found.encodings;
    file = given;
    choices = chosen;
    draw(found);
    if (found.corpus) await onCorpus(found.corpus, found.text);
  }

  async function choose(changed) {
    try {
      await read(file, { ...choices, ...changed });
      complain("load-error");
    } catch (error) {
      complain("load-error", error);
    }
  }

  function draw(found) {
    const isText = found.format === "text";
    find("upload").hidden = false;
    find("upload-name").textContent = file.name;
    complain("data-error");
    options("format", Object.entries(FORMATS), found.format);
    const columns = found.columns.map(({ name }) => name);
    options("column", [["", "choose …"], ...columns.map((name) => [name, name])], choices.column ?? "");
    const others = columns.filter((name) => name !== choices.column);
    options("labels", [["", "none"], ...others.map((name) => [name, name])], choices.labels ?? "");
    for (const id of ["column", "labels"]) find(id).parentElement.hidden = columns.length < 2;
    options("encoding", encodings.map(({ name, sample }) => [name, `${name}: ${sample}`]), found.encoding);
    find("encoding").parentElement.hidden = encodings.length < 2;
    find("header").checked = choices.header !== "false";
    find("header").closest("label").hidden = !["csv", "tsv"].includes(found.format);
    find("delimiter").parentElement.hidden = !isText;
    optionsOrText("delimiter", Object.entries(DELIMITERS), "another text …", choices.delimiter ?? "line");
    const asked = questions(found);
    show("findings", ...asked);
    if (asked.length) find("panel").open = true;
  }

  // What a file leaves open; a click answers.
  function questions({ encoding, columns, delimiters, formats, findings }) {
    const answers = (options, said, name) =>
      options.map((option) => [said(option), () => choose({ [name]: option.name })]);
    const sampled = ({ name, sample }) => (sample ? `${name}: ${sample}` : name);
    const [read, ...others] = choices.encoding ? [] : encodings;
    const asked = [];
    if (read) asked.push(question(`It is not UTF-8. Read as ${encoding}, it begins “${read.sample}”. If that is wrong, try`, answers(others, sampled, "encoding")));
    if (columns.length > 1 && !choices.column) asked.push(question("This is a table. Which column?", answers(columns, sampled, "column")));
    const split = ({ name, sample }) => `Split it at ${SEPARATORS[name]}: ${sample} …`;
    if (delimiters.length) asked.push(question("The file is a single string.", answers(delimiters, split, "delimiter")));
    const table = ({ name }) => `Read it as ${FORMATS[name]}`;
    if (formats.length) asked.push(question("It looks like a table, but is read as lines.", answers(formats, table, "format")));
    for (const { reason, max_length } of findings) {
      const shorter = [`Leave out what is longer than ${max_length}`, () => onSelect({ max_length })];
      asked.push(question(`${reason[0].toUpperCase()}${reason.slice(1)}.`, max_length ? [shorter] : []));
    }
    return asked;
  }

  find("upload").addEventListener("change", ({ target }) => {
    const { id, name, type, checked, value } = target;
    if (asksForText(target)) return;
    if (id === "header") for (const each of ["column", "labels"]) delete choices[each]; // which depend on it, and on the format
    if (id === "format") choices = choices.encoding ? { encoding: choices.encoding } : {};
    if (id === "column" && value === choices.labels) delete choices.labels;
    if (value || id === "labels") choose({ [name]: type === "checkbox" ? String(checked) : value || [] });
  });
  for (const id of ["load", "file"]) {
    find(id).addEventListener("change", ({ target }) => {
      if (target.files.length) open(target.files[0]);
      target.value = "";
    });
  }
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("drop").hidden = !event.dataTransfer.types.includes("Files");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) find("drop").hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    find("drop").hidden = true;
    if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  });

  return {
    // Other data are chosen.
    leave() {
      find("upload").hidden = true;
    },
  };
}

// Whether a file is a model: safetensors, whatever its name, or an object as JSON.
async function isModel(file) {
  const bytes = new Uint8Array(await file.slice(0, 64).arrayBuffer());
  const isTensors = bytes[8] === 0x7b && bytes.subarray(4, 8).every((byte) => byte === 0);
  const isObject = new TextDecoder().decode(bytes).trimStart().startsWith("{");
  return isTensors || /\.safetensors$/i.test(file.name) || (isObject && /\.json$/i.test(file.name));
}
