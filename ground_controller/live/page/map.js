// The map: coasts, night, ground tracks, links, satellites. Plate carree, centred.
import { begin, colours, mark } from "./draw.js";
import { place, state } from "./state.js";

const canvas = document.getElementById("map"), note = document.getElementById("map-note");
const MOST_TRACKS = 8, MOST_LABELS = 40, MOST_LINKS = 700, TRACK_S = 1500;
let centre = 0, land = null, ground = null, groundKey = "", spots = [], told = -1e9;

fetch("/page/land.json").then((answer) => answer.json()).then((found) => { land = found.rings; groundKey = ""; drawMap(); });

// `x` of a longitude, `at` of degrees east of the map's left edge.
function frame(width, height) {
  const scale = Math.min(width / 360, height / 180), left = (width - 360 * scale) / 2, top = (height - 180 * scale) / 2;
  const east = (lon) => (lon - centre + 540) % 360;
  return { scale, left, top, east, x: (lon) => left + east(lon) * scale, at: (degrees) => left + degrees * scale, y: (lat) => top + (90 - lat) * scale };
}

// Greenwich is in the middle, or the date line where most of the satellites are near that.
export function centreMap() {
  const mapped = state.nodes.map((node) => place(node.sky)).filter(Boolean);
  centre = mapped.filter(([lon]) => Math.abs(lon) > 120).length > mapped.length / 2 ? 180 : 0;
  groundKey = "";
}

// Sea, land and grid change with size and theme only.
function background(width, height, f) {
  const key = `${width} ${height} ${document.documentElement.dataset.theme} ${land !== null}`;
  if (key === groundKey) return ground;
  ground = document.createElement("canvas");
  const scale = devicePixelRatio || 1, k = colours("sea", "land", "grid");
  ground.width = width * scale; ground.height = height * scale;
  const c = ground.getContext("2d");
  c.scale(scale, scale);
  c.fillStyle = k.sea;
  c.fillRect(f.left, f.top, 360 * f.scale, 180 * f.scale);
  c.beginPath();
  c.rect(f.left, f.top, 360 * f.scale, 180 * f.scale);
  c.clip();
  c.fillStyle = k.land;
  c.beginPath();
  for (const ring of land || []) for (const shift of [-180, 180, 540].map((turn) => turn - centre)) {
    for (let i = 0; i < ring.length; i += 2) {
      const x = f.at(ring[i] / 10 + shift), y = f.y(ring[i + 1] / 10);
      if (i) c.lineTo(x, y); else c.moveTo(x, y);
    }
    c.closePath();
  }
  c.fill();
  c.strokeStyle = k.grid;
  c.lineWidth = 0.6;
  c.beginPath();
  for (let x = 30; x < 360; x += 30) { c.moveTo(f.at(x), f.y(90)); c.lineTo(f.at(x), f.y(-90)); }
  for (let lat = -60; lat < 90; lat += 30) { c.moveTo(f.at(0), f.y(lat)); c.lineTo(f.at(360), f.y(lat)); }
  c.stroke();
  groundKey = key;
  return ground;
}

// Where the Sun is below the horizon: tan(latitude of the terminator) = -cos(hour angle) / tan(declination).
function night(c, f, k) {
  if (!state.underSun) return;
  const [lat, lon] = state.underSun, declination = (Math.abs(lat) < 0.1 ? 0.1 : lat) * Math.PI / 180;
  c.fillStyle = k.night;
  c.beginPath();
  const pole = declination > 0 ? -90 : 90;
  c.moveTo(f.at(0), f.y(pole));
  for (let x = 0; x <= 360; x += 3) {
    const hour = (x - f.east(lon)) * Math.PI / 180;
    c.lineTo(f.at(x), f.y(Math.atan(-Math.cos(hour) / Math.tan(declination)) * 180 / Math.PI));
  }
  c.lineTo(f.at(360), f.y(pole));
  c.fill();
  c.fillStyle = k.sun;
  c.beginPath(); c.arc(f.x(lon), f.y(lat), 4, 0, 7); c.fill();
}

// A line between two places, cut in two where it leaves the map on one side.
function line(c, f, a, b) {
  const from = f.east(a[0]), to = f.east(b[0]);
  let turn = to - from;
  if (turn > 180) turn -= 360; else if (turn < -180) turn += 360;
  c.moveTo(f.at(from), f.y(a[1]));
  c.lineTo(f.at(from + turn), f.y(b[1]));
  if (Math.abs(from + turn - to) > 1) { c.moveTo(f.at(to - turn), f.y(a[1])); c.lineTo(f.at(to), f.y(b[1])); }
}

function track(c, f, sky, from, to, dash) {
  c.setLineDash(dash);
  c.beginPath();
  const step = Math.max((to - from) / 120, 1);
  let last = null;
  for (let t = from; t < to + step; t += step) {
    const here = place(sky, Math.min(t, to));
    if (last) line(c, f, last, here);
    last = here;
  }
  c.stroke();
  c.setLineDash([]);
}

function tracks(c, f) {
  const shown = state.nodes.length <= MOST_TRACKS ? state.nodes.map((_, i) => i) : [state.selected];
  for (const i of shown) {
    const node = state.nodes[i];
    if (!node || !place(node.sky)) continue;
    c.strokeStyle = nodeColour(i);
    c.lineWidth = i === state.selected ? 2 : 1;
    c.globalAlpha = 0.7;
    const end = state.sky.track_s[state.sky.track_s.length - 1];
    track(c, f, node.sky, Math.max(0, state.scenarioS - TRACK_S), state.scenarioS, []);
    track(c, f, node.sky, state.scenarioS, Math.min(end, state.scenarioS + TRACK_S), [2, 4]);
    c.globalAlpha = 1;
  }
}

let palette = {};
const nodeColour = (i) => palette[`s${i % 8}`];

function links(c, f, places) {
  if (!state.sky) return;
  const of = state.selected >= 0 ? state.nodes[state.selected].sky : -1, all = state.links.size <= MOST_LINKS;
  c.strokeStyle = palette.link;
  c.lineWidth = 1;
  c.beginPath();
  for (const pair of state.links) {
    const [a, b] = state.sky.pairs[pair];
    if ((all || a === of || b === of) && places[a] && places[b]) line(c, f, places[a], places[b]);
  }
  c.stroke();
}

function satellites(c, f, places) {
  spots = [];
  const named = [];
  const size = state.nodes.length > 60 ? 3 : 5, labels = state.nodes.length <= MOST_LABELS;
  const mapped = new Set(state.nodes.map((node) => node.sky));
  c.fillStyle = palette.dim;
  places.forEach((at, sky) => {
    if (at && !mapped.has(sky)) c.fillRect(f.x(at[0]) - 3, f.y(at[1]) - 3, 6, 6);  // ground stations
  });
  c.font = "600 12px system-ui, sans-serif";
  state.nodes.forEach((node, i) => {
    const at = places[node.sky];
    if (!at) return;
    const x = f.x(at[0]), y = f.y(at[1]);
    spots.push([x, y, i]);
    const fill = node.state === "dead" ? palette.bad : labels ? nodeColour(i) : palette.s0;
    mark(c, x, y, size, node.state, fill);
    c.beginPath();
    c.lineWidth = labels ? 1.5 : 1;
    c.strokeStyle = node.sunlit > 0.5 ? palette.sun : palette.dim;
    c.setLineDash(node.sunlit > 0.5 ? [] : [2, 3]);
    c.arc(x, y, size + (labels ? 4 : 2.5), 0, 7); c.stroke();
    c.setLineDash([]);
    if (i === state.selected) { c.strokeStyle = palette.focus; c.lineWidth = 2.5; c.strokeRect(x - size - 8, y - size - 8, 2 * size + 16, 2 * size + 16); }
    if (labels || i === state.selected || node.state === "dead") named.push([node, x, y]);
  });
  const taken = spots.map(([x, y]) => [x - size - 5, y - size - 5, x + size + 5, y + size + 5]);
  for (const [node, x, y] of named) label(c, f, taken, node, x, y);
}

/** A name beside its satellite, where it lies over no other one and no name, if there is such a place. */
function label(c, f, taken, node, x, y) {
  const text = node.state === "dead" ? `${node.name}: dead` : node.name, width = c.measureText(text).width;
  const boxes = [];
  for (const dy of [-6, 14, -20, 28, -34, 42]) {
    for (const left of [false, true]) {
      const at = left ? x - 12 - width : x + 12, top = y + dy - 11;
      const inside = at >= f.left && at + width <= f.left + 360 * f.scale && top >= f.top && top + 14 <= f.top + 180 * f.scale;
      if (inside) boxes.push([at, top, at + width, top + 14]);
    }
  }
  const free = (box) => taken.every((one) => one[0] >= box[2] || one[2] <= box[0] || one[1] >= box[3] || one[3] <= box[1]);
  const box = boxes.find(free) || boxes[0];
  if (!box) return;
  taken.push(box);
  c.textAlign = "left";
  c.lineWidth = 3; c.strokeStyle = palette.panel; c.strokeText(text, box[0], box[3] - 3);
  c.fillStyle = node.state === "dead" ? palette.bad : palette.text; c.fillText(text, box[0], box[3] - 3);
}

export function drawMap() {
  const b = begin(canvas);
  if (!b || !state.facts) return;
  palette = colours("link", "sun", "night", "text", "dim", "bad", "panel", "focus", ...Array.from({ length: 8 }, (_, i) => `s${i}`));
  const f = frame(b.width, b.height);
  b.c.drawImage(background(b.width, b.height, f), 0, 0, b.width, b.height);
  b.c.save();
  b.c.beginPath(); b.c.rect(f.left, f.top, 360 * f.scale, 180 * f.scale); b.c.clip();
  night(b.c, f, palette);
  const places = state.sky ? state.sky.names.map((_, sky) => place(sky)) : [];
  tracks(b.c, f);
  links(b.c, f, places);
  satellites(b.c, f, places);
  b.c.restore();
  describe(places);
}

function describe(places) {
  if (performance.now() - told < 1000) return;
  told = performance.now();
  const known = state.nodes.length <= MOST_LABELS ? state.nodes : state.nodes.filter((node, i) => node.state === "dead" || i === state.selected);
  const words = known.map((node) => {
    const at = places[node.sky];
    const where = at ? `${Math.abs(at[1]).toFixed(1)} ${at[1] < 0 ? "south" : "north"} ${Math.abs(at[0]).toFixed(1)} ${at[0] < 0 ? "west" : "east"}` : "place unknown";
    return `${node.name} ${where}, ${node.state}, ${node.sunlit > 0.5 ? "in sunlight" : "in shadow"}`;
  });
  canvas.setAttribute("aria-label", `Map with ${state.nodes.length} satellites and ${state.links.size} links. ${words.join("; ")}`);
  note.textContent = !places.some(Boolean) ? "no ground tracks: the run's schedule has none, or is not there" :
    state.links.size > MOST_LINKS ? `${state.links.size} links: those of the selected satellite are drawn` :
    "solid ring: sunlit, dashed: eclipse; all modelled";
}

export function onPick(pick) {
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const near = spots.map(([sx, sy, i]) => [Math.hypot(sx - x, sy - y), i]).sort((a, b) => a[0] - b[0])[0];
    if (near && near[0] < 16) pick(near[1]);
  });
}
