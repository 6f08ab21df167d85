// Which experts are used: one cell each, a line for each layer. Arrow keys move the cursor that the note reads out.
import { begin, colours } from "./draw.js";
import { state } from "./state.js";

const canvas = document.getElementById("heat"), note = document.getElementById("heat-note");
// "cividis" (Nunez, Anderton, Renslow 2018): of even lightness steps for all common kinds of colour vision.
const SCALE = [[0, 32, 77], [42, 63, 108], [87, 93, 109], [124, 123, 120], [166, 157, 117], [211, 193, 100], [255, 234, 70]];
let cursor = -1, cells = null;

function shade(share) {
  const x = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1), i = Math.min(Math.floor(x), SCALE.length - 2), u = x - i;
  const mix = SCALE[i].map((v, n) => Math.round(v + u * (SCALE[i + 1][n] - v)));
  return { css: `rgb(${mix})`, light: share > 0.55 };
}

export function drawHeat() {
  const b = begin(canvas), facts = state.facts;
  if (!b || !facts || !state.counts.length) return;
  const { layers, experts } = facts, k = colours("dim", "focus");
  const left = 26, top = 14, w = (b.width - left - 4) / experts, h = Math.min((b.height - top - 2) / layers, 46);
  const most = Math.max(1, ...state.counts);
  cells = { left, top, w, h };
  b.c.font = "11px system-ui, sans-serif";
  b.c.textBaseline = "middle";
  for (let layer = 0; layer < layers; layer++) {
    for (let expert = 0; expert < experts; expert++) {
      const count = state.counts[layer * experts + expert], paint = shade(count / most);
      b.c.fillStyle = paint.css;
      b.c.fillRect(left + expert * w, top + layer * h, Math.max(w - 1, 1), Math.max(h - 1, 1));
      if (w >= 20 && h >= 14) {
        b.c.fillStyle = paint.light ? "#000" : "#fff";
        b.c.textAlign = "center";
        b.c.fillText(count < 1000 ? count : `${Math.round(count / 1000)}k`, left + (expert + 0.5) * w - 0.5, top + (layer + 0.5) * h, w - 3);
      }
    }
    b.c.fillStyle = k.dim;
    b.c.textAlign = "right";
    if (h >= 11 || layer % Math.ceil(11 / h) === 0) b.c.fillText(`L${layer}`, left - 4, top + (layer + 0.5) * h);
  }
  b.c.textAlign = "center";
  b.c.fillStyle = k.dim;
  const step = Math.max(1, Math.ceil(18 / w));
  for (let expert = 0; expert < experts; expert += step) b.c.fillText(expert, left + (expert + 0.5) * w, 7);
  if (cursor >= 0) {
    b.c.strokeStyle = k.focus; b.c.lineWidth = 3;
    b.c.strokeRect(left + (cursor % experts) * w, top + Math.floor(cursor / experts) * h, w, h);
  }
  say();
}

function say() {
  const { layers, experts } = state.facts, counts = state.counts;
  const one = (i) => `layer ${Math.floor(i / experts)} expert ${i % experts}: ${counts[i]} rows`;
  let words;
  if (cursor >= 0) {
    const line = counts.slice(Math.floor(cursor / experts) * experts, (Math.floor(cursor / experts) + 1) * experts);
    const all = line.reduce((sum, count) => sum + count, 0);
    words = `${one(cursor)}, ${all ? (100 * counts[cursor] / all).toFixed(1) : 0} % of its layer`;
  } else {
    const most = counts.indexOf(Math.max(...counts));
    words = `most used: ${one(most)}; ${counts.filter((count) => !count).length} of ${layers * experts} unused`;
  }
  if (note.textContent !== words) { note.textContent = words; canvas.setAttribute("aria-label", `Use of experts. ${words}`); }
}

canvas.addEventListener("keydown", (event) => {
  if (!state.facts || !state.counts.length) return;
  const { layers, experts } = state.facts, step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: experts, ArrowUp: -experts }[event.key];
  if (!step) return;
  event.preventDefault();
  cursor = cursor < 0 ? 0 : Math.min(Math.max(cursor + step, 0), layers * experts - 1);
  drawHeat();
});

canvas.addEventListener("click", (event) => {
  if (!cells || !state.facts) return;
  const x = Math.floor((event.offsetX - cells.left) / cells.w), y = Math.floor((event.offsetY - cells.top) / cells.h);
  const { layers, experts } = state.facts;
  cursor = x >= 0 && x < experts && y >= 0 && y < layers ? y * experts + x : -1;
  drawHeat();
});
