// The scrubber: the model after each of some steps of its training, asked for as it is looked at, and a play button.
// Not here: drawing a moment (studio.js).

import { decimal, nearest } from "./drawing.js";
import { get, newest, query } from "./studio-api.js";
import { complain, find, outdate } from "./studio-dom.js";

const SECONDS = 4; // that a film lasts

// `views` show a moment; they are out of date until the one that is asked for is there.
export function filmSection({ question, onMoment, views }) {
  let run = null;
  let current = 0;
  let kept = new Map(); // moments by their address
  let playing = false;
  const asking = newest();

  // A run, whose last moment answers what was asked before it was trained; by now something else may be asked.
  function take(made, asked) {
    stop();
    run = made;
    current = run.moments.length - 1;
    kept = new Map([[address(current, asked), run.moment]]);
    find("film").hidden = run.moments.length < 2;
    find("moment").max = current;
    show(current);
  }

  function address(at, asked = question(run)) {
    return `/api/runs/${run.id}/moments/${run.moments[at]}?${query(asked)}`;
  }

  function label({ step }) {
    const text = `step ${decimal(step, 0)} of ${decimal(run.moments.at(-1), 0)}`;
    find("moment").value = current;
    find("moment").setAttribute("aria-valuetext", text);
    find("moment-value").textContent = text;
  }

  async function show(at) {
    current = at;
    const asked = run;
    const where = address(at);
    if (!kept.has(where)) outdate(...views);
    try {
      const moment = kept.get(where) ?? (await asking((signal) => get(where, { signal })));
      if (!moment || asked !== run) return;
      kept.set(where, moment);
      complain("moment-error");
      label(moment);
      onMoment(moment);
    } catch (error) {
      stop();
      complain("moment-error", error, ...views);
    }
  }

  async function play() {
    mark(true);
    const film = run;
    const frame = (SECONDS * 1000) / film.moments.length;
    for (let at = 0; playing && film === run && at < film.moments.length; at++) {
      const pause = new Promise((resume) => setTimeout(resume, frame));
      await show(at);
      await pause;
    }
    if (film === run) stop();
  }

  function stop() {
    mark(false);
  }

  function mark(now) {
    playing = now;
    find("play").textContent = playing ? "Pause" : "Watch it learn";
  }

  find("play").addEventListener("click", () => (playing ? stop() : play()));
  find("moment").addEventListener("input", ({ target }) => {
    stop();
    show(target.valueAsNumber);
  });

  return {
    take,
    play,
    step: () => run.moments[current],
    refresh: async () => run && show(current),
    go(step) {
      stop();
      show(nearest([...run.moments.keys()], (at) => Math.abs(run.moments[at] - step)));
    },
  };
}
