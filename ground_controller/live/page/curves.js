// Four curves over the run: tokens a second, power, temperature, charge. uPlot draws them.
import { colour, lineOf } from "./draw.js";
import { state } from "./state.js";

const box = document.getElementById("curves");
const KINDS = [
  { name: "tokens/s", of: (c) => [c.tokens_per_s] },
  { name: "board power W", of: (c) => c.power_w, own: "power_w" },
  { name: "twin C; dots: limit", of: (c) => c.temperature_c, own: "temperature_c", limit: (l) => l.temperature_soft_c },
  { name: "twin charge %; dots: limit", of: (c) => c.charge, own: "charge", limit: (l) => l.charge_soft, times: 100 },
];
let plots = [], built = "";

export function buildCurves() {
  for (const plot of plots) plot.destroy();
  box.textContent = "";
  plots = state.curves ? KINDS.map(build) : [];
  document.getElementById("curves-note").textContent = state.curves?.spread
    ? "over host seconds; dotted least, solid median, dashed most" : "over host seconds";
  built = key();
}

const key = () => `${state.selected} ${state.own !== null}`;

function build(kind, n) {
  const place = document.createElement("div"), name = document.createElement("span");
  name.className = "name";
  name.textContent = kind.name;
  place.append(name);
  box.append(place);
  const axis = { stroke: colour("dim"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const options = {
    width: Math.max(place.clientWidth, 60), height: Math.max(place.clientHeight, 40), padding: [24, 8, 0, 0],
    cursor: { show: false }, legend: { show: false }, scales: { x: { time: false } },
    axes: [{ ...axis, size: 18, gap: 1, space: 50 }, { ...axis, size: 40, gap: 2, space: 22 }],
    series: [{}, ...lines(kind, n)], hooks: { draw: [cursor] },
  };
  return new uPlot(options, data(kind), place);
}

function lines(kind, n) {
  const line = (paint, width, dash) => ({ stroke: paint, width, dash, points: { show: false }, spanGaps: false });
  const found = n === 0 ? [line(colour("s0"), 2, [])] : state.curves.spread
    ? [line(colour("dim"), 1, [2, 2]), line(colour("s0"), 2, []), line(colour("dim"), 1, [6, 3])]
    : state.nodes.map((_, i) => { const { colour: paint, dash } = lineOf(i); return line(paint, i === state.selected ? 3 : 1.5, dash); });
  if (kind.own && state.own) found.push(line(colour("s1"), 2.5, [8, 3]));
  if (kind.limit) found.push(line(colour("bad"), 1, [1, 4]));
  return found;
}

function data(kind) {
  const c = state.curves, times = kind.times || 1, scaled = (list) => times === 1 ? list : list.map((v) => v === null ? null : v * times);
  const found = [c.host_s, ...kind.of(c).map(scaled)];
  if (kind.own && state.own) {
    const own = new Map(state.own.host_s.map((at, i) => [at, state.own[kind.own][0][i]]));
    found.push(scaled(c.host_s.map((at) => own.get(at) ?? null)));
  }
  if (kind.limit) found.push(c.host_s.map(() => kind.limit(state.facts.limits) * times));
  return found;
}

// Where the time line stands, if it is not at the newest.
function cursor(plot) {
  if (!state.past) return;
  const x = plot.valToPos(state.hostS, "x", true), { top, height } = plot.bbox, c = plot.ctx;
  c.save();
  c.setLineDash([]);
  c.strokeStyle = colour("text"); c.lineWidth = 2;
  c.beginPath(); c.moveTo(x, top); c.lineTo(x, top + height); c.stroke();
  c.restore();
}

export function drawCurves() {
  if (!state.curves) return;
  if (built !== key() || !plots.length) { buildCurves(); return; }
  plots.forEach((plot, n) => plot.setData(data(KINDS[n])));
}

export function sizeCurves() {
  for (const plot of plots) {
    const place = plot.root.parentElement;
    plot.setSize({ width: Math.max(place.clientWidth, 60), height: Math.max(place.clientHeight, 40) });
  }
}
