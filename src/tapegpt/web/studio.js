// The studio's page: every move of a slider trains a model anew and draws it. Its state is in three records: `state` is
// what somebody chose and is remembered, `corpus` what it is trained on, `run` what came out. Not here: requests
// (studio-api.js), sliders (studio-settings.js), pictures (views.js), and the sections that have modules of their own.

import { get, newest, post, train } from "./studio-api.js";
import { codeSection } from "./studio-code.js";
import { compareSection } from "./studio-compare.js";
import { complain, count, duration, find, grouped, make, show } from "./studio-dom.js";
import { filmSection } from "./studio-film.js";
import { playgroundSection } from "./studio-playground.js";
import { readingSection } from "./studio-reading.js";
import { controls, parameters, sound } from "./studio-settings.js";
import { link, remember, remembered } from "./studio-state.js";
import { embeddingMap, lossCurve, stringList } from "./views.js";

const OWN = "own"; // of the data sets' list: the text that is pasted
const SAMPLES = { names: "First names", surnames: "Surnames" };
const SHOWN = 100_000; // characters of a file that can be edited here
const LINE = 30; // characters, from which strings may take several lines
const WAIT = 400; // milliseconds without a key until a pasted or typed text is taken
const MODEL_FILE = /\.(safetensors|json)$/i;

const state = { data: {}, settings: sound(), text: null };
let corpus = null;
let run = null;
let corpora = []; // of the server's own, the first is what it was started with

const training = newest();
const loading = newest();
const sliders = controls("sliders", (name, settings) => {
  takeSettings(settings);
  if (name === "temperature" && run) film.refresh();
  else retrain();
});
const reading = readingSection({
  onText(text) {
    const unknown = [...text].find((character) => !vocabulary().includes(character));
    complain("probe-error", unknown && new Error(`“${unknown}” is not among the characters of the data.`));
    if (unknown) return;
    state.text = text;
    remember("text", text);
    film.refresh();
  },
});
const compare = compareSection({ onChange: drawCurve });
const playground = playgroundSection();
const code = codeSection();
const film = filmSection({
  question,
  onMoment: drawMoment,
});

// What is asked of a moment.
function question() {
  return { text: state.text, temperature: state.settings.temperature };
}

function vocabulary() {
  return (run ?? corpus)?.vocabulary ?? "";
}

// Keeps the string that is read where these characters allow it; else takes another.
function fit(characters, other) {
  if (state.text === null || ![...state.text].every((character) => characters.includes(character))) state.text = other;
  reading.setText(state.text);
  complain("probe-error");
}

function takeSettings(settings) {
  state.settings = settings;
  remember("settings", settings);
  if (!corpus) return;
  find("parameters").textContent = count(parameters(settings, [...corpus.vocabulary].length + 1), "parameter");
}

// --- data

async function chooseData(data, text = null) {
  state.data = data;
  remember("data", data);
  drawChoice();
  if (data.text !== undefined && !data.text.trim()) return;
  try {
    const chosen = await loading((signal) => corpusOf(data, signal));
    if (!chosen) return;
    complain("data-error");
    state.text = text;
    takeCorpus(chosen);
    retrain();
  } catch (error) {
    complain("data-error", error);
  }
}

function corpusOf({ dataset, text, corpus: id }, signal) {
  if (text !== undefined) return post("/api/corpora", { text }, { signal });
  if (dataset) return post("/api/corpora", { dataset }, { signal });
  return get(`/api/corpora/${id ?? corpora[0].id}`, { signal });
}

function takeCorpus(chosen) {
  corpus = chosen;
  fit(corpus.vocabulary, corpus.sample[0]);
  const name = SAMPLES[corpus.dataset] ?? (state.data.text === undefined ? corpus.name : "Your strings");
  const strings = count(corpus.documents, "string");
  const characters = count([...corpus.vocabulary].length, "character");
  find("facts").textContent = `${name} · ${strings}`;
  find("corpus-facts").textContent = `${strings}, ${characters}, typically ${corpus.median} long.`;
  find("sample").textContent = corpus.sample.join("  ");
  find("strings-view").style.setProperty("--length", `${Math.min(60, Math.max(8, Math.ceil(1.6 * corpus.median)))}ch`);
  find("strings-view").classList.toggle("long", corpus.median > LINE);
  takeSettings(state.settings);
  awaitBaselines(corpus);
}

// What simpler models would lose: the server finds it out meanwhile.
async function awaitBaselines(asked) {
  for (let wait = 250; asked === corpus && !corpus.baselines && wait < 60_000; wait *= 1.5) {
    await new Promise((resume) => setTimeout(resume, wait));
    if (asked !== corpus) return;
    try {
      Object.assign(asked, await get(`/api/corpora/${asked.id}`));
    } catch {
      return; // the curve does without
    }
  }
  if (asked === corpus) drawCurve();
}

function drawChoice() {
  const own = corpora.filter(({ dataset }) => !dataset);
  show(
    "dataset",
    ...own.map(({ id, name }) => make("option", { value: `corpus:${id}` }, name)),
    ...Object.entries(SAMPLES).map(([value, label]) => make("option", { value: `dataset:${value}` }, label)),
    make("option", { value: OWN }, "Your own strings"),
  );
  const { dataset, text, corpus: id } = state.data;
  find("dataset").value = text !== undefined ? OWN : dataset ? `dataset:${dataset}` : `corpus:${id}`;
  find("own").hidden = text === undefined || (text.length > SHOWN && text !== find("text").value);
  if (!find("own").hidden && find("text").value !== text) find("text").value = text;
}

find("dataset").addEventListener("change", ({ target }) => {
  const [kind, name] = target.value.split(":");
  chooseData(kind === OWN ? { text: find("text").value } : { [kind]: name });
  if (kind === OWN) find("text").focus();
});

let typing = 0;
find("text").addEventListener("input", ({ target }) => {
  clearTimeout(typing);
  typing = setTimeout(() => chooseData({ text: target.value }), WAIT);
});

// --- training

async function retrain() {
  if (!corpus) return;
  const choices = { ...state.settings };
  delete choices.temperature; // it is asked of a model, not trained
  fit(corpus.vocabulary, corpus.sample[0]);
  const asked = question();
  const began = performance.now();
  find("timing").textContent = "training …";
  const request = { corpus: corpus.id, settings: choices, ...asked };
  try {
    const made = await training((signal) => train(request, drawProgress, signal));
    if (!made) return;
    complain("train-error");
    takeRun(made, asked);
    const whole = (performance.now() - began) / 1000;
    const { train: trained, compile } = made.seconds;
    const parts = [`trained ${count(made.steps, "step")} in ${duration(trained)}`];
    if (compile > 0.001) parts.push(`compiled in ${duration(compile)}`);
    find("timing").textContent = [...parts, `${duration(whole)} there and back`].join(" · ");
  } catch (error) {
    find("timing").textContent = "";
    complain("train-error", error);
  }
}

function takeRun(made, asked) {
  run = made;
  find("save").href = `/api/runs/${run.id}/file`;
  find("save").removeAttribute("aria-disabled");
  find("pin").disabled = false;
  playground.take(run);
  code.take(run);
  compare.take(run);
  film.take(run, asked);
  const { strings, loss } = run.moment;
  const lost = loss === null ? "" : `loss ${loss.toFixed(2)}, `;
  const first = strings.slice(0, 3).map(({ text }) => text);
  find("summary").textContent = `${lost}${count(strings.length, "string")}: ${first.join(", ")} …`;
}

function drawProgress({ step, steps, losses, strings, compiling }) {
  find("strings-view").style.minHeight ||= `${find("strings-view").offsetHeight}px`; // nothing below is to jump
  const position = `step ${grouped(step)} of ${grouped(steps)} …`;
  find("timing").textContent = compiling ? "compiling a model of this shape …" : position;
  if (strings.length) show("strings-view", stringList(strings.map((text) => ({ text, known: false, nats: null }))));
  if (!losses.steps.length) return;
  const now = { name: "this run", losses, held_out: [], pinned: false };
  show("loss-view", lossCurve({ runs: [now, ...compare.curves()], baselines: corpus.baselines }));
}

// --- pictures

function drawMoment(moment) {
  find("strings-view").style.minHeight = "";
  show("strings-view", stringList(moment.strings));
  show("map-view", embeddingMap(moment.embeddings));
  reading.draw(run, moment);
  drawCurve();
}

function drawCurve() {
  if (!run) return;
  const now = { name: "this run", losses: run.losses, held_out: run.held_out, pinned: false };
  const baselines = run.corpus === corpus?.id ? corpus.baselines : run.baselines;
  const several = run.moments.length > 1;
  const curve = { runs: [now, ...compare.curves()], baselines, moment: several ? film.step() : null };
  show("loss-view", lossCurve({ ...curve, onMoment: several ? (step) => film.go(step) : null }));
}

// --- files, links

async function load(file) {
  complain("load-error");
  complain("data-error");
  try {
    if (MODEL_FILE.test(file.name)) await adopt((signal) => post("/api/models", file, { signal }), file.name);
    else await chooseData({ text: await file.text() });
  } catch (error) {
    complain("load-error", error);
  }
}

// Shows a run that was not trained here and now: that of a model file, or one that the server has already.
async function adopt(ask, name) {
  const { temperature } = state.settings;
  let asked = null;
  const made = await training(async (signal) => {
    const { id, vocabulary, moment } = await ask(signal);
    fit(vocabulary, moment.strings[0].text);
    asked = question();
    return get(`/api/runs/${id}?${new URLSearchParams(asked)}`, { signal });
  });
  if (!made) return;
  complain("train-error");
  const settings = sound({ ...made.settings, temperature });
  sliders.set(settings);
  takeSettings(settings);
  takeRun(made, asked);
  find("timing").textContent = `${name}: ${count(made.parameters, "parameter")}, as it was saved`;
}

for (const id of ["load", "file"]) {
  find(id).addEventListener("change", ({ target }) => {
    if (target.files.length) load(target.files[0]);
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
  if (event.dataTransfer.files.length) load(event.dataTransfer.files[0]);
});

find("pin").addEventListener("click", () => compare.pin());

find("share").addEventListener("click", async () => {
  const { address, whole } = await link(state);
  find("shared").hidden = false;
  find("link").value = address;
  find("link").select();
  let copied = "";
  try {
    await navigator.clipboard.writeText(address);
    copied = "Copied. ";
  } catch {
    // the browser does not allow it: the link is selected to be copied by hand
  }
  const held = whole ? "It holds settings and data" : "It holds the settings, without the data";
  find("shared-about").textContent = `${copied}${held}; nothing was sent anywhere.`;
});

find("reset").addEventListener("click", () => {
  sliders.set(sound());
  takeSettings(sound());
  retrain();
});

// --- the beginning

const wide = matchMedia("(min-width: 760px)");
const unfold = () => (find("panel").open = wide.matches);
wide.addEventListener("change", unfold);
unfold();

async function begin() {
  const given = location.hash.match(/^#run=([\w-]+)$/)?.[1]; // the model that the studio was started with
  const former = (await remembered()) ?? {};
  state.settings = sound(former.settings);
  sliders.set(state.settings);
  try {
    corpora = await get("/api/corpora");
  } catch (error) {
    show("strings-view");
    complain("train-error", error);
    return;
  }
  await chooseData(dataOf(former.data), typeof former.text === "string" ? former.text.slice(0, 200) : null);
  if (!given) return;
  try {
    await adopt((signal) => get(`/api/runs/${given}`, { signal }), "Model");
  } catch (error) {
    complain("load-error", error);
  }
}

// What was trained on last time, where the server still has it; else what it was started with.
function dataOf(data) {
  const { dataset, text, corpus: id } = data ?? {};
  if (typeof text === "string") return { text };
  if (Object.hasOwn(SAMPLES, dataset)) return { dataset };
  const kept = corpora.find((each) => each.id === id) ?? corpora[0];
  return kept.dataset ? { dataset: kept.dataset } : { corpus: kept.id };
}

begin();
