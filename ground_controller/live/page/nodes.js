// The table of satellites, and one of them in full.
import { lineOf } from "./draw.js";
import { state } from "./state.js";

const body = document.getElementById("nodes"), detail = document.getElementById("detail");
const MARKS = { waiting: "\u2026", serving: "\u25cf", "no new work": "\u25d0", "out of service": "\u25cb", dead: "\u2717" };
const CLASSES = { dead: "dead", "out of service": "out", "no new work": "soft" };
const ALL_SHOWN = 40;    // of more rows, only those in sight get new numbers; states are always told
const inSight = new Set();
let rows = [], choose = () => {};

const sight = new IntersectionObserver((seen) => {
  for (const one of seen) {
    const i = Number(one.target.dataset.node);
    if (one.isIntersecting) { inSight.add(i); if (rows[i]) drawRow(i); } else inSight.delete(i);
  }
}, { root: body.closest(".scroll"), rootMargin: "60px" });

export function onChoose(function_) { choose = function_; }

export function buildNodes() {
  sight.disconnect();
  inSight.clear();
  body.textContent = "";
  const lines = state.nodes.length <= 12;
  rows = state.nodes.map((node, i) => {
    const row = body.insertRow(), cells = Array.from({ length: 7 }, () => row.insertCell());
    row.tabIndex = i ? -1 : 0;
    row.dataset.node = i;
    cells.slice(2).forEach((cell) => { cell.className = "n"; });
    const name = document.createElement("b");
    name.textContent = node.name;
    if (lines) cells[0].append(sample(i));
    cells[0].append(name, small(node.satellite));
    cells[0].title = `${node.name}, ${node.satellite}`;
    const parts = { state: document.createElement("span"), cause: small(""), power: text(), kind: small(""), since: small("") };
    parts.state.className = "state";
    parts.kind.className = "kind";
    cells[1].append(parts.state, parts.cause);
    cells[2].append(parts.power, parts.kind, parts.since);
    ["temperature", "charge", "sun", "calls"].forEach((key, n) => { parts[key] = text(); cells[3 + n].append(parts[key]); });
    sight.observe(row);
    return { row, parts, was: {} };
  });
}

function sample(i) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS(svg.namespaceURI, "path");
  svg.setAttribute("width", 22); svg.setAttribute("height", 8); svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", "M0 4h22"); path.setAttribute("fill", "none"); path.setAttribute("stroke", `var(--s${i % 8})`);
  path.setAttribute("stroke-width", 2.5); path.setAttribute("stroke-dasharray", lineOf(i).dash.join(" "));
  svg.append(path);
  return svg;
}

const text = () => document.createTextNode("");
function small(words) { const made = document.createElement("small"); made.textContent = words; return made; }
const number = (value, digits, unit = "") => value === null || value === undefined ? "-" : value.toFixed(digits) + unit;

export function drawNodes() {
  for (let i = 0; i < rows.length; i++) drawRow(i);
}

function drawRow(i) {
  const { row, parts, was } = rows[i], node = state.nodes[i];
  const now = { state: `${MARKS[node.state]} ${node.state}`, cause: node.cause };
  if (rows.length <= ALL_SHOWN || inSight.has(i)) Object.assign(now, {
    power: number(node.powerW, 2, " W"), kind: node.powerBy.split("(")[0], temperature: number(node.temperatureC, 1, " C"),
    since: node.lastReadS === null ? "" : `since ${node.lastReadS.toFixed(0)} s`,
    charge: number(node.charge === null ? null : 100 * node.charge, 1, " %"),
    sun: number(node.sunlit === null ? null : 100 * node.sunlit, 0, " %"), calls: number(node.calls, 0),
  });
  for (const key in now) if (now[key] !== was[key]) {
    parts[key][parts[key].nodeType === 3 ? "data" : "textContent"] = was[key] = now[key];
    if (key === "kind") { parts.kind.className = `kind ${now.kind}`; parts.kind.title = node.powerBy; parts.kind.hidden = !now.kind; }
    if (key === "state") row.className = CLASSES[node.state] || "";
  }
  const selected = String(i === state.selected);
  if (row.getAttribute("aria-selected") !== selected) row.setAttribute("aria-selected", selected);
}

body.addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row) choose(Number(row.dataset.node));
});

body.addEventListener("keydown", (event) => {
  const row = event.target.closest("tr");
  if (!row) return;
  const i = Number(row.dataset.node), last = rows.length - 1;
  const to = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: last, PageDown: i + 10, PageUp: i - 10 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    row.tabIndex = -1;
    const next = rows[Math.min(Math.max(to, 0), last)].row;
    next.tabIndex = 0;
    next.focus();
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(i);
  }
});

export function drawDetail(readings) {
  const node = state.nodes[state.selected];
  detail.hidden = !node;
  if (!node) return;
  const at = Math.max(...readings.map((one) => one[5] ?? -1));
  document.getElementById("detail-title").textContent = `${node.name}, what its board said last` + (at < 0 ? "" : `, at ${at.toFixed(0)} s`);
  const list = document.getElementById("readings");
  list.textContent = "";
  for (const [name, value, unit, provenance, absent, cameS] of readings) {
    const item = document.createElement("li"), late = cameS !== null && at - cameS >= 1 ? ` (at ${cameS.toFixed(0)} s)` : "";
    item.textContent = `${name}: ${value === null ? `none (${absent || "not reported now"})` : `${Number(value.toPrecision(5))} ${unit}`}${late}`;
    item.append(small(provenance));
    list.append(item);
  }
  if (!readings.length) list.append(Object.assign(document.createElement("li"), { textContent: "nothing yet" }));
}
