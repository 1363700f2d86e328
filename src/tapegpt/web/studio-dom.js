// What stands in the page, and whether it is up to date. Not here: building elements (drawing.js), pictures (views.js).

import { element } from "./drawing.js";
import { newest } from "./studio-api.js";

export function find(id) {
  return document.getElementById(id);
}

const OTHER = "other"; // of a list: a text that is typed in the field with "-text" behind its name

// The choices of a list as [value, what is shown], and the one that is chosen.
export function options(id, pairs, chosen) {
  show(id, ...pairs.map(([value, label]) => element("option", { value }, label)));
  find(id).value = chosen;
}

// The same with another text behind them, of that name.
export function optionsOrText(id, pairs, other, chosen) {
  const isOther = !pairs.some(([value]) => value === chosen);
  options(id, [...pairs, [OTHER, other]], isOther ? OTHER : chosen);
  find(`${id}-text`).hidden = !isOther;
  if (isOther) find(`${id}-text`).value = chosen;
}

// Whether a list has been set to another text, which can be typed now.
export function asksForText({ id, value }) {
  const text = value === OTHER ? find(`${id}-text`) : null;
  if (text) text.hidden = false;
  text?.focus();
  return text !== null;
}

// What is found in the data, with answers as [what is said, what a click does].
export function question(found, answers) {
  const buttons = answers.map(([said, accept]) => {
    const button = element("button", { type: "button", class: "link" }, said);
    button.addEventListener("click", accept);
    return button;
  });
  return element("li", {}, element("span", {}, found), ...buttons);
}

// Puts something in the place of what an element holds; nothing empties it. It is up to date then.
export function show(id, ...children) {
  find(id).replaceChildren(...children);
  find(id).classList.remove("stale");
}

// Dims what is out of date, until it is shown anew: what is to replace it is asked for, or could not be had.
export function outdate(...ids) {
  for (const id of ids) find(id).classList.add("stale");
}

// One calm line, or none, where something went wrong; the views that it concerns are then out of date.
export function complain(id, error, ...views) {
  find(id).textContent = error ? error.message : "";
  if (error) outdate(...views);
}

// Asks for the newest of what is wanted, which `take` shows; until then `views` are out of date. Where it fails, a line
// says why, and the answer is false.
export function asker(problem, ...views) {
  const asking = newest();
  return async (ask, take) => {
    outdate(...views);
    try {
      const answer = await asking(ask);
      if (answer === undefined) return true;
      complain(problem);
      take(answer);
      return true;
    } catch (error) {
      complain(problem, error);
      return false;
    }
  };
}

// A duration in seconds, with the digits that mean something.
export function duration(seconds) {
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

// Marks a section as out of date; it is refreshed when it is, or comes, into sight: what nobody sees costs nothing.
export function whenSeen(section, refresh) {
  let seen = false;
  let stale = false;
  const check = () => {
    if (!seen || !stale) return;
    stale = false;
    refresh();
  };
  new IntersectionObserver(([entry]) => {
    seen = entry.isIntersecting;
    check();
  }).observe(section);
  return () => {
    stale = true;
    check();
  };
}
