// A model in a page of its own: it generates, and shows how it reads what is typed.
// Not here: the model (`model.js`), how pictures are drawn (`views.js`).
import { count, decimal, element } from "./drawing.js";
import { modelOf } from "./model.js";
import { lossCurve, probabilityBars, surpriseText } from "./views.js";

const { model: packed, unit } = JSON.parse(document.getElementById("data").textContent);
const model = await modelOf(packed);
const [options, reader] = ["options", "reader"].map((id) => document.getElementById(id));
const MOST = 1000; // strings
const LIKELY = 8; // next tokens
const SEEN = 1500; // milliseconds in which a word is read
const [LONG, MOST_LONG] = [20, 60]; // characters of a string that is shown smaller, and in columns so wide at most
const POINTS = 250; // of the loss, each with a picture: about four seconds
const BUSY = 100; // milliseconds between two pictures where there is to be little movement
const [SAME, NEARLY] = ["the same model to the last bit", "the same model but for roundings"];
const isHasty = matchMedia("(prefers-reduced-motion: reduce)");
let isTraining = false;
let strings = [];
let position = null; // whose expectations are shown; null for the most surprising one

/** Shows what a form asks for, of strings up to a length, or in a line why it cannot be. */
function answer(form, act) {
  const problem = form.querySelector("[role=alert]");
  const shown = document.getElementById(form.dataset.shows);
  try {
    const { children, length } = act();
    shown.replaceChildren(...children);
    shown.classList.toggle("long", length > LONG);
    shown.style.setProperty("--length", `${Math.min(length, MOST_LONG)}ch`);
    problem.textContent = "";
  } catch (error) {
    problem.textContent = error.message;
  }
  shown.classList.toggle("stale", problem.textContent !== "");
}

/** The labels that a form's selects name. */
const labelsIn = (form) => Object.fromEntries([...form.querySelectorAll("select")].map((each) => [each.dataset.column, each.value]));

function generate() {
  const { prefix, temperature, n, seed } = options.elements;
  temperature.nextElementSibling.textContent = decimal(temperature.valueAsNumber);
  answer(options, () => {
    const settings = { prefix: prefix.value, temperature: temperature.valueAsNumber, labels: labelsIn(options) };
    strings = model.generate({ ...settings, n: Math.min(n.valueAsNumber || 0, MOST), seed: seed.value });
    const item = (text) => {
      const button = element("button", { type: "button", title: "read this", dir: "auto" }, text || "(empty)");
      button.addEventListener("click", () => read(text));
      return element("li", {}, button);
    };
    return { children: strings.map(item), length: Math.max(1, ...strings.map((text) => text.length)) };
  });
}

/** Reads a string that was generated, with the labels that were requested. */
function read(text) {
  reader.elements.text.value = text;
  for (const [column, value] of Object.entries(labelsIn(options))) {
    if (value) reader.querySelector(`[data-column="${CSS.escape(column)}"]`).value = value;
  }
  position = null;
  look();
}

function look() {
  answer(reader, () => {
    const read = model.read(reader.elements.text.value, labelsIn(reader));
    const { surprises, loss } = read;
    const most = surprises.indexOf(Math.max(...surprises));
    const at = Math.min(position ?? most, surprises.length - 1);
    const bars = element("div", {});
    const select = (t) => {
      position = t;
      bars.replaceChildren(probabilityBars({ ...read, next: { [t]: read.next(t).slice(0, LIKELY) } }, t));
    };
    const chosen = position;
    select(at);
    position = chosen;
    const said = `${decimal(loss)} nats per ${unit}: as if it chose among ${decimal(Math.exp(loss), 1)} each time`;
    const heads = read.attention.length ? " · arcs: what its heads look at" : "";
    const text = surpriseText(read, { onSelect: select, selected: at });
    return { children: [element("div", {}, text, element("p", { class: "quiet" }, said + heads)), bars], length: surprises.length };
  });
}

document.getElementById("copy").addEventListener("click", async ({ target }) => {
  await navigator.clipboard.writeText(strings.join("\n"));
  target.textContent = "Copied";
  setTimeout(() => (target.textContent = "Copy"), SEEN);
});
options.addEventListener("input", generate);
options.addEventListener("submit", (event) => {
  event.preventDefault();
  options.elements.seed.stepUp();
  generate();
});
reader.addEventListener("input", look);
reader.addEventListener("submit", (event) => event.preventDefault());
for (const [form, any] of [[options, [""]], [reader, []]]) {
  const selects = packed.columns.map(([name, values]) => {
    const choices = [...any, ...values].map((value) => element("option", { value }, value || "any"));
    return element("label", {}, name, element("select", { "data-column": name }, ...choices));
  });
  form.prepend(...selects);
}

/** Trains the model before the reader's eyes: a few steps for each picture, so that it takes a few seconds. */
function trainAgain(button) {
  const [said, curve] = ["trained", "loss"].map((id) => document.getElementById(id));
  const apart = Math.ceil(model.steps / POINTS);
  const losses = { steps: [], mean: [] };
  let step = 0;
  const advance = () => {
    for (const end = performance.now() + BUSY; step < model.steps && performance.now() < end; ) {
      const taken = model.train(step, Math.min(apart, model.steps - step));
      step += taken.length;
      losses.steps.push(step);
      losses.mean.push(taken.reduce((sum, loss) => sum + loss, 0) / taken.length);
      if (!isHasty.matches) break;
    }
    said.textContent = `step ${decimal(step, 0)} of ${decimal(model.steps, 0)}`;
    curve.replaceChildren(lossCurve({ runs: [{ name: "training", losses, held_out: [] }] }));
    if (step < model.steps && isTraining) requestAnimationFrame(advance);
    else show(false);
    generate();
    look();
  };
  const show = (begins) => {
    isTraining = begins;
    button.textContent = begins ? "Stop" : "Train it again";
    said.ariaBusy = String(begins); // not each number is read aloud
    if (begins) return model.begin();
    const isSame = model.end();
    if (step === model.steps) said.textContent = `${count(step, "step")}: ${isSame ? SAME : NEARLY}`;
  };
  show(true);
  advance();
}

document.getElementById("trained").textContent = `in ${count(model.steps, "step")}, before your eyes`;
document.getElementById("train").addEventListener("click", ({ target }) => {
  if (isTraining) isTraining = false;
  else trainAgain(target);
});
generate();
read(options.nextElementSibling.querySelector("button").textContent);
