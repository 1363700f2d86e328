// The studio's page: every move of a slider trains a model anew and draws it. Its state is in three records: `state` is
// what somebody chose and is remembered, `corpus` what it is trained on, `run` what came out. Not here: requests
// (studio-api.js), sliders (studio-settings.js), pictures (views.js), and the sections that have modules of their own.

import { count, decimal, element, percent } from "./drawing.js";
import { get, newest, post, query } from "./studio-api.js";
import { card } from "./studio-card.js";
import { compareSection } from "./studio-compare.js";
import { asksForText, complain, duration, find, options, optionsOrText, question, show } from "./studio-dom.js";
import { filmSection } from "./studio-film.js";
import { missionSection } from "./studio-missions.js";
import { partSection } from "./studio-part.js";
import { playgroundSection } from "./studio-playground.js";
import { readingSection } from "./studio-reading.js";
import { controls, sound, tokenRules, valueFrom } from "./studio-settings.js";
import { firstModel } from "./studio-transport.js";
import { isFirstVisit, link, remember, remembered } from "./studio-state.js";
import { uploadSection } from "./studio-upload.js";
import { lossCurve, stringList } from "./views.js";

const OWN = "own"; // of the data sets' list: the text that is pasted
const SAMPLES = {
  names: "First names",
  surnames: "Surnames",
  dinosaurs: "Dinosaurs",
  elements: "Chemical elements",
  places: "Places of the world",
  languages: "Languages, as they call themselves",
};
const NOUNS = { names: "name", surnames: "surname", dinosaurs: "dinosaur", elements: "element", places: "place", languages: "language" };
const SHOWN = 100_000; // characters of a text that can be edited here
const LINE = 30; // characters, from which strings may take several lines
const FEW = 20; // strings, of which none are held out
const MOST = 0.95; // of the strings, that a context is to hold where it would have to be twice as large for all
const WAIT = 400; // milliseconds without a key until a pasted or typed text is taken
const READING = ["surprise-view", "score-view", "bars-view", "gradient-view"];
const MOMENT = ["strings-view", "model-view", "part-view", ...READING];

const state = { data: {}, settings: {}, text: null };
let label = {}; // that strings are to have: by its column, of those that are there
let corpus = null;
let run = null;
let corpora = []; // to choose from: what the server was started with, and files

const training = newest();
const loading = newest();
const sliders = controls(["sliders", "more-sliders"], (name, settings) => {
  takeSettings(settings);
  if (name !== "temperature" || !run) return retrain();
  redraw();
});
const reading = readingSection({
  onText(text) {
    const unknown = [...text].find(isUnknownTo((run ?? corpus)?.vocabulary ?? []));
    complain("probe-error", unknown && new Error(`“${unknown}” is not among the characters of the data.`), ...READING);
    if (unknown) return;
    state.text = text;
    remember("text", text);
    film.refresh();
  },
});
const compare = compareSection({ drawing, onChange: drawCurve });
const playground = playgroundSection({ drawing });
const part = partSection();
const missions = missionSection();
const film = filmSection({
  question: asked,
  onMoment: drawMoment,
  views: MOMENT,
});
const upload = uploadSection({
  onModel: (file) => adopt((signal) => post("/api/models", file, { signal }), file.name),
  async onCorpus(chosen, text) {
    if (text === null) corpora.push(chosen);
    const data = { ...(text === null ? { corpus: chosen.id } : { text }), ...rule() };
    takeData(data, await corpusOf(data));
  },
  onSelect: select,
});

// How strings are drawn of what was trained on these data, a run or a corpus.
function drawing({ labels }) {
  const chosen = labels.filter(({ name, values }) => values.includes(label[name]));
  return { temperature: state.settings.temperature, label: chosen.map(({ name }) => `${name}=${label[name]}`) };
}

// What is asked of a moment.
function asked(of) {
  return { text: state.text, ...drawing(of) };
}

function redraw() {
  for (const section of [film, playground, compare]) section.refresh();
}

const isUnknownTo = (tokens) => (character) => !tokens.some((token) => token.includes(character));

// Keeps the string that is read where its characters are tokens of a run or corpus; else takes another.
function fit({ vocabulary, labels }, other) {
  if (state.text === null || [...state.text].some(isUnknownTo(vocabulary))) state.text = other;
  reading.setText(state.text);
  complain("probe-error");
  show("of", ...labels.map(({ name }) => element("label", {}, `${name} `, element("select", { id: `of-${name}`, name }))));
  for (const { name, values } of labels) {
    options(`of-${name}`, ["", ...values].map((value) => [value, value || "any"]), values.includes(label[name]) ? label[name] : "");
  }
}

find("of").addEventListener("change", ({ target: { name, value } }) => {
  label = { ...label, [name]: value };
  redraw();
});

function takeSettings(settings) {
  state.settings = settings;
  remember("settings", settings);
  if (corpus) show("asks", ...questions());
}

// What the data leave open; a click answers.
function questions() {
  const { block_size: block } = state.settings;
  const { unique, max_length } = state.data;
  const found = [];
  const long = longStrings();
  if (long) {
    const context = wantedContext();
    const answers = [["Choose the engine fast, which reads all", () => sliders.move("engine", "fast")]];
    if (context > block) answers.unshift([`Raise the context to ${context}`, () => sliders.move("block_size", context)]);
    const share = `${count(long, "string")} (${percent(long / corpus.documents)})`;
    const are = long === 1 ? "is" : "are";
    found.push(question(`${share} ${are} longer than the context of ${block}: the rest is not read.`, answers));
  }
  const again = corpus.documents - corpus.distinct;
  if (again > (1 - MOST) * corpus.documents) {
    const once = [["Train on each once", () => select({ unique: true })]];
    found.push(question(`${count(again, "repetition")} among ${count(corpus.documents, "string")}: what is repeated counts more.`, once));
  }
  if (unique) found.push(question("Each string counts once.", [["Count repetitions too", () => select({ unique: false })]]));
  if (max_length) {
    found.push(question(`Strings longer than ${max_length} are left out.`, [["Take them too", () => select({ max_length: null })]]));
  }
  return found;
}

// Other strings of the same data.
function select(wanted) {
  chooseData({ ...state.data, ...wanted });
}

// How many strings the model does not read to their end: the exact engine trains on the beginning of those that, with
// their end, are longer than the context.
function longStrings() {
  const { block_size: block, engine } = state.settings;
  return engine === "exact" ? corpus.lengths.reduce((sum, [length, strings]) => sum + (length >= block ? strings : 0), 0) : 0;
}

// A context that holds all strings with their ends, or most where a few are much longer.
function wantedContext() {
  let within = 0;
  const [most] = corpus.lengths.find(([, strings]) => (within += strings) >= MOST * corpus.documents);
  return valueFrom("block_size", 1 + (corpus.longest > 2 * most ? most : corpus.longest));
}

// --- data

// Trains on other data, once they are there; until then, and where they are refused, all stays as it is.
async function chooseData(data, text = null) {
  try {
    const chosen = await loading((signal) => corpusOf(data, signal));
    if (!chosen) return;
    if (["dataset", "text", "corpus"].some((kind) => data[kind] !== state.data[kind])) upload.leave();
    takeData(data, chosen, text);
  } catch (error) {
    const stays = corpus ? `The data are still ${find("facts").textContent}.` : "";
    complain("data-error", followed(error, stays));
    if (data.text === undefined) drawChoice();
  }
}

function takeData(data, chosen, text = null) {
  complain("data-error");
  state.data = data;
  state.text = text;
  remember("data", data);
  drawChoice();
  takeCorpus(chosen);
  retrain();
}

function corpusOf(data, signal) {
  const kept = corpora.find(({ id }) => id === data.corpus);
  const isKept = kept && (data.tokens ?? kept.tokens) === kept.tokens && !data.unique && !data.max_length;
  return isKept ? get(`/api/corpora/${kept.id}`, { signal }) : post("/api/corpora", data, { signal });
}

// The rule of tokens as data have it, which stays where others are chosen.
function rule() {
  return corpus ? { tokens: corpus.tokens } : {};
}

function takeCorpus(chosen) {
  corpus = chosen;
  optionsOrText("tokens", tokenRules().map((each) => [each, each]), "an expression …", corpus.tokens);
  fit(corpus, corpus.sample[0]);
  const name = SAMPLES[corpus.dataset] ?? (state.data.text === undefined ? corpus.name : "Your strings");
  const strings = count(corpus.documents, "string");
  const tokens = corpus.vocabulary;
  const unit = tokens.every((token) => [...token].length === 1) ? "character" : "token";
  find("facts").textContent = `${name} · ${strings}`;
  find("corpus-facts").textContent = `${strings}, typically of ${count(corpus.median, unit)}; ${count(tokens.length, `different ${unit}`)}.`;
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
  if (asked !== corpus) return;
  drawCurve();
  missions.notice({ run, baselines: corpus.baselines });
}

function drawChoice() {
  const own = corpora.filter(({ dataset }) => !dataset);
  show(
    "dataset",
    ...own.map(({ id, name }) => element("option", { value: `corpus:${id}` }, name)),
    ...Object.entries(SAMPLES).map(([value, label]) => element("option", { value: `dataset:${value}` }, label)),
    element("option", { value: OWN }, "Your own strings"),
  );
  const { dataset, text, corpus: id } = state.data;
  find("dataset").value = text !== undefined ? OWN : dataset ? `dataset:${dataset}` : `corpus:${id}`;
  find("own").hidden = text === undefined || (text.length > SHOWN && text !== find("text").value);
  if (!find("own").hidden && find("text").value !== text) find("text").value = text;
}

find("dataset").addEventListener("change", ({ target }) => {
  const [kind, name] = target.value.split(":");
  find("own").hidden = kind !== OWN;
  if (kind !== OWN) return chooseData({ [kind]: name, ...rule() });
  find("text").focus();
  if (find("text").value.trim()) chooseData({ text: find("text").value, ...rule() });
});

find("rule").addEventListener("change", ({ target }) => {
  if (!asksForText(target) && target.value) chooseData({ ...state.data, tokens: target.value });
});

let typing = 0;
find("text").addEventListener("input", ({ target }) => {
  clearTimeout(typing);
  const { unique, max_length } = state.data.text === undefined ? {} : state.data;
  typing = setTimeout(() => chooseData({ text: target.value, ...rule(), unique, max_length }), WAIT);
});

// --- training

async function retrain() {
  if (!corpus) return;
  const choices = { ...state.settings };
  delete choices.temperature; // it is asked of a model, not trained
  if (corpus.documents < FEW) choices.validation = 0;
  fit(corpus, corpus.sample[0]);
  const wanted = asked(corpus);
  const began = performance.now();
  find("timing").textContent = "training …";
  const request = { corpus: corpus.id, settings: choices, ...wanted };
  let reached = null; // as far as is known
  const onProgress = (progress) => drawProgress((reached = progress));
  enter("waiting");
  headline("Training a GPT", corpus);
  try {
    const made = await training((signal) => post("/api/runs", request, { onProgress, signal }));
    if (!made) return;
    complain("train-error");
    takeRun(made, wanted);
    const whole = (performance.now() - began) / 1000;
    const { train: trained, compile } = made.seconds;
    headline("You just trained a GPT", corpus, made, trained);
    const parts = [`trained ${count(made.steps, "step")} in ${duration(trained)}`];
    if (compile > 0.001) parts.push(`compiled in ${duration(compile)}`);
    if (longStrings()) parts.push(`${count(longStrings(), "string")} cut at ${choices.block_size} characters`);
    if (choices.validation < state.settings.validation) parts.push("too few strings to hold some out");
    find("timing").textContent = [...parts, `${duration(whole)} in total`].join(" · ");
    if (isFirstVisit() && !matchMedia("(prefers-reduced-motion: reduce)").matches) film.play();
  } catch (error) {
    await fail(error, reached);
  }
}

// What just happened, in a line: numbers that are learned, documents, seconds.
function headline(what, data, made = null, seconds = null) {
  const noun = NOUNS[data?.dataset] ?? "string";
  const parts = [made && count(made.parameters, "number"), data && count(data.documents, noun), seconds && duration(seconds)];
  const told = parts.filter(Boolean).flatMap((each) => [", ", element("b", {}, each)]).slice(1);
  show("headline", `${what}: `, ...told, made ? "." : " …");
  find("invitation").hidden = !made;
  find("invitation").textContent = `It is inventing ${noun}s. Change anything and it starts over.`;
  find("strings-title").textContent = `Generated ${noun}s`;
}

// All views are of one run, but for those that show a training, or are dimmed: while one is waited for, or has failed.
function enter(state) {
  find("main").dataset.state = state;
  find("main").dataset.reached = "false";
}

// No run came out: what is shown is the one before, dimmed, or none, and the losses as far as the training came.
async function fail(error, reached = null) {
  enter("failed");
  find("parameters").textContent = "";
  show("headline", "This training failed.");
  find("invitation").hidden = true;
  find("timing").textContent = "";
  find("summary").textContent = "";
  find("strings-view").style.minHeight = "";
  if (!run) {
    show("strings-view", element("p", { class: "quiet" }, "There is no model yet."));
    show("loss-view");
    complain("train-error", error);
    drawReached(reached);
    return;
  }
  fit(run, run.moment.explanation.text);
  await film.refresh();
  complain("train-error", followed(error, "The dimmed results are those of the run before."));
  drawReached(reached);
}

// The losses of a training that did not end, up to where it broke off.
function drawReached(reached) {
  if (reached && !reached.compiling) missions.notice({ broke: true });
  find("main").dataset.reached = String(Boolean(reached?.losses.steps.length));
  if (!reached?.losses.steps.length) return;
  const broken = { name: "you", losses: reached.losses, held_out: [], pinned: false };
  show("loss-view", lossCurve({ runs: [broken, ...compare.curves()], baselines: corpus.baselines, moment: reached.losses.steps.at(-1) }));
}

// An error with another sentence behind its own.
function followed({ message }, sentence) {
  return new Error(`${message.replace(/\w$/, "$&.")} ${sentence}`);
}

function takeRun(made, wanted) {
  run = made;
  enter("");
  find("parameters").textContent = count(run.parameters, "parameter");
  find("save").href = `/api/runs/${run.id}/file`;
  find("save").removeAttribute("aria-disabled");
  find("pin").disabled = false;
  playground.take(run);
  compare.take(run, wanted);
  film.take(run, wanted);
  if (corpus) missions.notice({ run, baselines: corpus.baselines });
  const { strings, loss } = run.moment;
  const lost = loss === null ? "" : `loss ${decimal(loss)}, `;
  const first = strings.slice(0, 3).map(({ text }) => text);
  find("summary").textContent = `${lost}${count(strings.length, "string")}: ${first.join(", ")} …`;
}

function drawProgress({ step, steps, parameters, losses, strings, compiling }) {
  find("parameters").textContent = count(parameters, "parameter");
  const position = `step ${decimal(step, 0)} of ${decimal(steps, 0)} …`;
  find("timing").textContent = compiling ? "compiling a model of this shape …" : position;
  if (!strings.length || !losses.steps.length) return;
  find("strings-view").style.minHeight ||= `${find("strings-view").offsetHeight}px`; // nothing below is to jump
  enter("training");
  show("strings-view", stringList(strings.map((text) => ({ text, known: false, nats: null }))));
  const now = { name: "you", losses, held_out: [], pinned: false };
  show("loss-view", lossCurve({ runs: [now, ...compare.curves()], baselines: corpus.baselines }));
}

// --- pictures

function drawMoment(moment) {
  find("strings-view").style.minHeight = "";
  show("strings-view", stringList(moment.strings, reading.read));
  reading.draw(run, moment);
  part.take(run, moment);
  drawCurve();
}

function drawCurve() {
  if (!run || find("main").dataset.state === "training") return;
  const now = { name: "you", losses: run.losses, held_out: run.held_out, pinned: false };
  const baselines = run.corpus === corpus?.id ? corpus.baselines : run.baselines;
  const several = run.moments.length > 1;
  const curve = { runs: [now, ...compare.curves()], baselines, moment: several ? film.step() : null };
  show("loss-view", lossCurve({ ...curve, onMoment: several ? (step) => film.go(step) : null }));
}

// --- files, links

// Shows a run that was not trained here and now: that of a model file, or one that the server has already.
async function adopt(ask, name) {
  const loaded = await loading(ask);
  if (!loaded) return;
  fit(loaded, loaded.moment.strings[0].text);
  const wanted = asked(loaded);
  const made = await training((signal) => get(`/api/runs/${loaded.id}?${query(wanted)}`, { signal }));
  if (!made) return;
  complain("train-error");
  const settings = sound({ ...made.settings, temperature: state.settings.temperature });
  sliders.set(settings);
  takeSettings(settings);
  takeRun(made, wanted);
  headline(made.model === "gpt" ? "A GPT from a file" : "A model from a file", null, made);
  find("timing").textContent = `${name}: ${count(made.parameters, "parameter")}, as it was saved`;
}

find("pin").addEventListener("click", () => compare.pin());

find("share").addEventListener("click", async () => {
  if (!run) return;
  const { address, whole } = await link(state);
  find("shared").hidden = false;
  find("one-page").href = `/api/runs/${run.id}/page`;
  URL.revokeObjectURL(find("card").href);
  find("card").href = await card(run, find("headline").textContent.replace("You just", "I"), find("facts").textContent);
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
  if (!corpus) return;
  sliders.set();
  takeSettings(sound());
  retrain();
});

// --- the beginning

const wide = matchMedia("(min-width: 760px)");
const unfold = () => (find("panel").open = wide.matches);
wide.addEventListener("change", unfold);
unfold();
find("panel").addEventListener("toggle", () => {
  if (find("panel").open && !wide.matches) find("strings").scrollIntoView(); // above the sheet
});

async function begin() {
  const given = location.hash.match(/^#run=([\w-]+)$/)?.[1]; // the model that the studio was started with
  const former = (await remembered()) ?? {};
  try {
    state.settings = await sliders.load(former.settings);
    const [first, ...others] = await get("/api/corpora");
    corpora = [first, ...others.filter(({ id }) => id === former.data?.corpus)];
  } catch (error) {
    fail(error);
    return;
  }
  await chooseData(dataOf(former.data), typeof former.text === "string" ? former.text.slice(0, 200) : null);
  if (!corpus) await chooseData(dataOf());
  try {
    const file = await firstModel();
    if (file) await adopt((signal) => post("/api/models", file, { signal }), "Model");
    if (given) await adopt((signal) => get(`/api/runs/${given}`, { signal }), "Model");
  } catch (error) {
    complain("load-error", error);
  }
}

// What was trained on last time, where the server still has it; else what it was started with.
// Not an expression of tokens, which may be anybody's: on some strings it takes for ever.
function dataOf(data) {
  const { dataset, text, corpus: id, tokens, unique, max_length } = data ?? {};
  const split = tokenRules().includes(tokens) ? { tokens } : {};
  if (unique === true) split.unique = true;
  if (Number.isInteger(max_length) && max_length > 0) split.max_length = max_length;
  if (typeof text === "string") return { text, ...split };
  if (Object.hasOwn(SAMPLES, dataset)) return { dataset, ...split };
  const kept = corpora.find((each) => each.id === id) ?? corpora[0];
  return kept.dataset ? { dataset: kept.dataset, tokens: kept.tokens } : { corpus: kept.id, ...split };
}

begin();
