// Strings that meet constraints, anew at every change of one. Not here: how the model keeps to them (sampling.py).

import { count } from "./drawing.js";
import { post } from "./studio-api.js";
import { asker, complain, duration, find, outdate, show, whenSeen } from "./studio-dom.js";
import { stringList } from "./views.js";

export function playgroundSection({ drawing }) {
  const form = find("constraints");
  const asking = asker("playground-error", "playground-view", "playground-timing");
  let run = null;
  const refresh = whenSeen(find("playground"), ask);

  function constraints() {
    const read = ({ type, value, valueAsNumber, checked }) => ({ checkbox: checked, number: valueAsNumber })[type] ?? value;
    const filled = [...form.elements].filter(({ name, value }) => name && value !== "");
    return { ...Object.fromEntries(filled.map((each) => [each.name, read(each)])), ...drawing(run) };
  }

  function ask() {
    if (!run) return;
    const wrong = [...form.elements].find((element) => !element.checkValidity());
    if (wrong) {
      const error = new Error(`${wrong.labels[0].textContent.trim()}: ${wrong.validationMessage}`);
      complain("playground-error", error, "playground-view", "playground-timing");
      return;
    }
    asking((signal) => post(`/api/runs/${run.id}/generate`, constraints(), { signal }), ({ strings, notes, seconds }) => {
      show("playground-view", stringList(strings));
      show("playground-timing", [`${count(strings.length, "string")} in ${duration(seconds)}`, ...notes].join(" · "));
    });
  }

  form.addEventListener("input", ask);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });

  return {
    refresh,
    take(made) {
      run = made;
      outdate("playground-view");
      refresh();
    },
  };
}
