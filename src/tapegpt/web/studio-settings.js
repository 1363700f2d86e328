// The sliders, as the server offers them, and which of their values go together. Not here: what a move leads to (studio.js).

import { decimal, element, nearest, percent } from "./drawing.js";
import { get } from "./studio-api.js";
import { find } from "./studio-dom.js";

const TEXTS = { steps: (number) => decimal(number, 0), validation: percent, temperature: (number) => decimal(number) };

let offered = []; // settings: {name, label, about, first, kind, default, values}
let rules = []; // by which strings are split into tokens; those that take no longer for any string

const isSlider = ({ name, values }) => values.length > 0 && name !== "engine";

// What a slider may be set to beside the other settings; heads share the width evenly.
function choices({ name, values }, { n_embd }) {
  return name === "n_head" ? values.filter((heads) => n_embd % heads === 0) : values;
}

export const tokenRules = () => rules;

// The smallest value of a slider that is not below a number, else its largest.
export function valueFrom(name, least) {
  const { values } = offered.find((each) => each.name === name);
  return values.find((value) => value >= least) ?? values.at(-1);
}

// Settings that can be trained with: what is missing or makes no sense has its default.
export function sound(given) {
  const settings = Object.fromEntries(offered.map((each) => [each.name, each.default]));
  for (const slider of offered.filter(isSlider)) {
    const { name, kind, values } = slider;
    const value = given?.[name];
    const isIn = value >= values[0] && value <= values.at(-1);
    if (isIn && (kind === "int" ? Number.isInteger(value) : Number.isFinite(value))) settings[name] = value;
    if (name === "n_head") settings[name] = nearest(choices(slider, settings), (heads) => Math.abs(heads - settings[name]));
  }
  if (Number.isSafeInteger(given?.seed) && given.seed >= 0) settings.seed = given.seed;
  if (given?.engine === "fast") settings.engine = "fast";
  return settings;
}

// The controls of all settings, sliders in the elements of these ids, first those to try: `load(settings)` fetches what is offered, and gives
// sound settings; `set(settings)` moves the controls, `move(name, value)` one as a person does; `onMove(name, settings)` is told what somebody moved.
export function controls([first, others], onMove) {
  let settings = {};
  let rows = [];

  function set(given) {
    settings = sound(given);
    rows.forEach(({ draw }) => draw(settings));
    find("seed").value = settings.seed;
    find(settings.engine).checked = true;
  }

  function move(name, value) {
    set({ ...settings, [name]: value });
    onMove(name, { ...settings });
  }

  async function load(given) {
    const every = await get("/api/settings");
    offered = every.filter(({ name }) => name !== "tokens");
    rules = every.find(({ name }) => name === "tokens").values;
    for (const { name, about } of offered.filter((each) => !isSlider(each))) find(`${name}-about`)?.replaceChildren(about);
    rows = offered.filter(isSlider).map((slider) => {
      const made = row(slider, (value) => move(slider.name, value));
      find(slider.first ? first : others).append(made.element);
      return made;
    });
    find("seed").addEventListener("change", ({ target }) => move("seed", target.validity.valid ? target.valueAsNumber : settings.seed));
    for (const engine of ["exact", "fast"]) find(engine).addEventListener("change", () => move("engine", engine));
    set(given);
    return settings;
  }

  return { load, set, move };
}

function row(slider, onMove) {
  const { name, label, about } = slider;
  const input = element("input", { type: "range", id: name, min: 0, step: 1 });
  const output = element("output", { for: name });
  const caption = element("label", { for: name }, label, " ", element("code", {}, name));
  let notches = [];
  input.addEventListener("input", () => onMove(notches[input.valueAsNumber]));
  const draw = (settings) => {
    const value = settings[name]; // what came from a link or a file is a notch too
    notches = [...new Set([...choices(slider, settings), value])].sort((a, b) => a - b);
    input.max = notches.length - 1;
    input.value = notches.indexOf(value);
    input.disabled = notches.length === 1;
    output.textContent = (TEXTS[name] ?? String)(value);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  return { element: element("div", { class: "control" }, caption, output, input, element("p", {}, about)), draw };
}
