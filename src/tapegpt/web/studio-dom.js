// What stands in the page, and whether it is up to date. Not here: building elements (drawing.js), pictures (views.js).

import { newest } from "./studio-api.js";

export function find(id) {
  return document.getElementById(id);
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
