// A model in a notebook's cell. It is asked by messages, which `notebook.py` answers. Not here: pictures (`views.js`).
import { count, decimal, element } from "./drawing.js";
import { modelFigure } from "./studio-model.js";
import { attentionView, embeddingMap, lossCurve, probabilityBars, stringList, surpriseText } from "./views.js";

/** Asks the model, one question at a time: the newest is asked as soon as the one before is answered. */
function asker(model, ask, show, fail) {
  const name = `${ask} ${Math.random()}`;
  let waiting = false;
  let next = null;
  const send = () => {
    waiting = true;
    model.send({ id: name, ask, ...next });
    next = null;
  };
  const onMessage = (message) => {
    if (message.id !== name) return;
    waiting = false;
    fail(message.error ?? "");
    if (message.answer) show(message.answer);
    if (next) send();
  };
  model.on("msg:custom", onMessage);
  return {
    ask(fields) {
      next = fields;
      if (!waiting) send();
    },
    stop: () => model.off("msg:custom", onMessage),
  };
}

/** Whether the notebook is dark: its text is light. */
function isDark() {
  const [red, green, blue] = getComputedStyle(document.body).color.match(/[\d.]+/g).map(Number);
  return red + green + blue > 1.5 * 255;
}

function render({ model, el }) {
  const start = model.get("start");
  const box = (kind, ...children) => element("div", { class: `widget-${kind}` }, ...children);
  const typed = { type: "text", autocomplete: "off", spellcheck: "false" };
  const notches = { type: "range", min: 0, max: 1.5, step: 0.05 };
  const temperature = element("input", { ...notches, value: start.temperature });
  const number = element("output");
  const prefix = element("input", { ...typed, size: 8 });
  const text = element("input", { ...typed, size: 16, value: start.moment.explanation.text });
  const values = (all) => ["", ...all].map((value) => element("option", { value }, value || "any"));
  const labels = start.labels.map(({ name, values: all }) => element("select", { name }, ...values(all)));
  const [strings, reading, bars, heads] = ["strings", "reading", "bars", "heads"].map((kind) => box(kind));
  const problems = [0, 1].map(() => element("div", { class: "widget-problem", role: "status" }));

  const showStrings = (shown) => strings.replaceChildren(stringList(shown));
  const showReading = (explanation) => {
    const { surprises } = explanation;
    const onSelect = (t) => bars.replaceChildren(probabilityBars(explanation, t));
    const selected = surprises.indexOf(Math.max(...surprises));
    onSelect(selected);
    reading.replaceChildren(surpriseText(explanation, { onSelect, selected }), bars);
    heads.replaceChildren(attentionView(explanation));
  };
  const generator = asker(model, "strings", showStrings, (message) => (problems[0].textContent = message));
  const reader = asker(model, "explanation", showReading, (message) => (problems[1].textContent = message));
  const label = () => labels.filter(({ value }) => value).map(({ name, value }) => `${name}=${value}`);
  const generate = () => {
    number.textContent = decimal(Number(temperature.value));
    generator.ask({ temperature: Number(temperature.value), prefix: prefix.value, label: label() });
  };
  const read = () => reader.ask({ text: text.value, label: label() });
  temperature.addEventListener("input", generate);
  prefix.addEventListener("input", generate);
  text.addEventListener("input", read);
  for (const select of labels) for (const ask of [generate, read]) select.addEventListener("input", ask);

  number.textContent = decimal(start.temperature);
  showStrings(start.strings);
  showReading(start.moment.explanation);
  const named = labels.map((select) => element("label", {}, `${select.name} `, select));
  const controls = box("row", element("label", {}, "Temperature ", temperature, number), element("label", {}, "Begins with ", prefix), ...named);
  const generates = box("part", controls, problems[0], strings);
  const reads = box("part", box("row", element("label", {}, "Reads ", text)), problems[1], reading);
  el.classList.add("tapegpt", "widget");
  el.setAttribute("role", "region");
  el.ariaLabel = "A model";
  el.style.colorScheme = isDark() ? "dark" : "light";
  const losses = start.losses.steps.length ? [lossCurve({ runs: [{ ...start, name: "training" }], baselines: start.baselines })] : [];
  const parts = box("parts", generates, ...losses, reads, heads, embeddingMap(start.moment.embeddings));
  const map = modelFigure(start, start.moment, null, () => {});
  el.replaceChildren(box("about", `${count(start.parameters, "parameter")}, ${count(start.steps, "step")}`), parts, map);
  return () => {
    generator.stop();
    reader.stop();
  };
}

export default { render };
