// The sliders: which values there are, and which go together. Not here: what a move leads to (studio.js).

import { find, grouped, make } from "./studio-dom.js";

const WIDTHS = [4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128];
const LAYERS = [1, 2, 3, 4, 5, 6, 7, 8];
const BLOCKS = [4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256];
const RATES = [0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1];
const STEPS = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];
const SHARES = [0, 0.05, 0.1, 0.2, 0.3];
const WHOLE = ["n_embd", "n_head", "n_layer", "block_size", "steps"];
const MOST = 32; // heads
const TEMPERATURES = Array.from({ length: 40 }, (_, place) => (place + 1) / 20);

export const DEFAULTS = {
  n_embd: 16, n_head: 4, n_layer: 1, block_size: 16,
  learning_rate: 0.01, steps: 1000, validation: 0, seed: 42, engine: "exact", temperature: 0.5,
};

// In the order in which they stand on the page.
export const SLIDERS = [
  { name: "n_embd", label: "Width", values: () => WIDTHS, about: "numbers that a character is" },
  { name: "n_head", label: "Heads", values: divisors, about: "attention heads; they share the width evenly" },
  { name: "n_layer", label: "Layers", values: () => LAYERS, about: "transformer blocks, one after another" },
  { name: "block_size", label: "Context", values: () => BLOCKS, about: "characters seen at a time" },
  { name: "learning_rate", label: "Learning rate", values: () => RATES, about: "size of a step, at first" },
  { name: "steps", label: "Steps", values: () => STEPS, text: grouped, about: "updates of all parameters" },
  { name: "validation", label: "Held out", values: () => SHARES, text: percent, about: "strings kept from training" },
  { name: "temperature", label: "Temperature", values: () => TEMPERATURES, text: hundredths, about: "higher means more surprising strings" },
];

function percent(share) {
  return `${Math.round(share * 100)} %`;
}

function hundredths(number) {
  return number.toFixed(2);
}

function divisors({ n_embd }) {
  return Array.from({ length: MOST }, (_, place) => place + 1).filter((number) => n_embd % number === 0);
}

// What a slider may be set to beside the other settings; what came from a link or a file is a notch too.
function choices({ name, values }, settings) {
  return [...new Set([...values(settings), settings[name]])].sort((a, b) => a - b);
}

// Settings that can be trained with: what is missing or makes no sense has its default.
export function sound(given) {
  const settings = { ...DEFAULTS };
  for (const { name, values } of SLIDERS) {
    const value = given?.[name];
    const isIn = name === "n_head" || (value >= values(settings)[0] && value <= values(settings).at(-1));
    if (isIn && (WHOLE.includes(name) ? Number.isInteger(value) : Number.isFinite(value))) settings[name] = value;
  }
  if (Number.isSafeInteger(given?.seed) && given.seed >= 0) settings.seed = given.seed;
  if (given?.engine === "fast") settings.engine = "fast";
  settings.n_head = nearest(divisors(settings), settings.n_head);
  return settings;
}

function nearest(values, wanted) {
  return values.reduce((best, value) => (Math.abs(value - wanted) < Math.abs(best - wanted) ? value : best));
}

export function parameters({ n_embd, n_layer, block_size }, tokens) {
  return (2 * tokens + block_size) * n_embd + 12 * n_layer * n_embd ** 2;
}

// The sliders as elements, in the element of that id. `set(settings)` moves them; `onMove(name, settings)` is told what
// somebody moved.
export function controls(id, onMove) {
  let settings = { ...DEFAULTS };
  const rows = SLIDERS.map((slider) => row(slider, (place) => {
    settings[slider.name] = choices(slider, settings)[place];
    settings = sound(settings);
    draw();
    onMove(slider.name, { ...settings });
  }));
  find(id).append(...rows.map(({ element }) => element));
  for (const input of [find("seed"), find("exact"), find("fast")]) {
    input.addEventListener("change", () => {
      const seed = find("seed").validity.valid ? find("seed").valueAsNumber : settings.seed;
      settings = sound({ ...settings, seed, engine: find("fast").checked ? "fast" : "exact" });
      draw();
      onMove(input.name, { ...settings });
    });
  }
  const draw = () => {
    rows.forEach(({ draw }) => draw(settings));
    find("seed").value = settings.seed;
    find(settings.engine).checked = true;
  };
  draw();
  return {
    set(given) {
      settings = sound(given);
      draw();
    },
  };
}

function row(slider, onMove) {
  const { name, label, text = String, about } = slider;
  const input = make("input", { type: "range", id: name, min: 0, step: 1 });
  const output = make("output", { htmlFor: name });
  const caption = make("label", { htmlFor: name, title: about }, label, " ", make("code", {}, name));
  input.addEventListener("input", () => onMove(input.valueAsNumber));
  const draw = (settings) => {
    const values = choices(slider, settings);
    input.max = values.length - 1;
    input.value = values.indexOf(settings[name]);
    input.disabled = values.length === 1;
    output.textContent = text(settings[name]);
    input.setAttribute("aria-valuetext", text(settings[name]));
  };
  return { element: make("div", { className: "control" }, caption, output, input), draw };
}
