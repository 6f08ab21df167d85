// The time line: go back to any moment of the run, play it again, or follow what is newest.
import { state } from "./state.js";

const range = document.getElementById("time"), when = document.getElementById("when");
const live = document.getElementById("live"), play = document.getElementById("play"), speed = document.getElementById("speed");
const STEP_S = 0.25, PATIENCE_MS = 10000;
let send = () => {}, timer = 0, wanted = null, asked = 0, held = false, waiting = false;

export function onSeek(function_) { send = function_; }

export function drawScrubber() {
  range.max = Math.ceil(state.lastHostS * 2) / 2;
  // It stays where a person put it, in the past and on the way there: what is newest still comes until that is answered.
  waiting = waiting && !state.past && performance.now() - asked < PATIENCE_MS;
  if (!state.past && !held && !waiting && wanted === null) range.value = state.hostS;
  const words = `${state.hostS.toFixed(1)} of ${state.lastHostS.toFixed(1)} s host, ${state.scenarioS.toFixed(0)} s orbit`;
  when.textContent = words;
  range.setAttribute("aria-valuetext", words);
  live.setAttribute("aria-pressed", String(!state.past));
}

// At most five questions a second, and always the last one.
function seek(hostS) {
  wanted = hostS;
  const wait = Math.max(0, asked + 200 - performance.now());
  clearTimeout(seek.timer);
  seek.timer = setTimeout(() => {
    asked = performance.now();
    send({ ask: "at", host_s: wanted });
    wanted = null;
    waiting = true;
  }, wait);
}

function stop() {
  clearInterval(timer);
  timer = 0;
  play.setAttribute("aria-pressed", "false");
  play.textContent = "play";
}

function goLive() {
  stop();
  clearTimeout(seek.timer);
  wanted = null;
  waiting = false;
  send({ ask: "live" });
}

range.addEventListener("input", () => { stop(); seek(Number(range.value)); });
range.addEventListener("pointerdown", () => { held = true; });
range.addEventListener("pointerup", () => { held = false; });
live.addEventListener("click", goLive);
play.addEventListener("click", () => {
  if (timer) { stop(); return; }
  play.setAttribute("aria-pressed", "true");
  play.textContent = "stop";
  let at = state.past ? state.hostS : 0;
  timer = setInterval(() => {
    at += STEP_S * Number(speed.value);
    if (at >= state.lastHostS) { goLive(); return; }
    range.value = at;
    seek(at);
  }, 1000 * STEP_S);
});
