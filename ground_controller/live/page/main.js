// Connects to the server and draws what changed, at most once a frame.
import { buildCurves, drawCurves, sizeCurves } from "./curves.js";
import { drawEvents } from "./events.js";
import { drawHeat } from "./heat.js";
import { centreMap, drawMap, onPick } from "./map.js";
import { buildNodes, drawDetail, drawNodes, onChoose } from "./nodes.js";
import { drawScrubber, onSeek } from "./scrubber.js";
import { state, takeHello, takePicture } from "./state.js";
import { drawText, onAsk } from "./text.js";
import { explain } from "./why.js";

const by = (id) => document.getElementById(id);
const NO_TOKEN = 4401, CURVES_MS = 1000, DETAIL_MS = 3000;
let socket = null, token = "", curvesAt = 0, detailAt = 0, noticeTimer = 0, centred = false;

function keepToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  token = sessionStorage.getItem("token") || "";
}

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.onopen = () => { if (token) send({ ask: "token", token }); };
  socket.onmessage = (event) => take(JSON.parse(event.data));
  socket.onclose = (event) => {
    if (event.code === NO_TOKEN) { askToken(); return; }
    by("standing").textContent = "the dashboard does not answer; trying again";
    by("standing").className = "silent";
    setTimeout(connect, 1000);
  };
}

function askToken() {
  by("ask-token").hidden = false;
  by("token-problem").textContent = token ? "That token is not the one." : "";
  by("token").focus();
}

by("ask-token").addEventListener("submit", (event) => {
  event.preventDefault();
  token = by("token").value.trim();
  sessionStorage.setItem("token", token);
  by("ask-token").hidden = true;
  connect();
});

function take(message) {
  if (message.kind === "waiting") by("standing").textContent = "waits for the first tick";
  else if (message.kind === "error") notify(`${message.error} ${message.hint}`);
  else if (message.kind === "hello") begin(message);
  else if (message.kind === "node") takeNode(message);
  else if (message.kind === "picture" && state.facts) draw(takePicture(message));
}

function begin(message) {
  const again = state.facts !== null;
  if (again && (state.facts.run !== message.facts.run || state.facts.began_utc !== message.facts.began_utc)) { location.reload(); return; }
  takeHello(message);
  const facts = message.facts;
  document.title = `${facts.run} - SpaceMoE-HIL`;
  by("run").textContent = facts.run;
  by("about").textContent = `${facts.campaign}, ${facts.policy}${facts.simulated ? ", SIMULATED" : ""}; began ${facts.began_utc}, ` +
    `${facts.nodes.length} nodes, orbit x ${facts.rate}`;
  const list = by("source-list");
  list.textContent = "";
  for (const [what, source] of Object.entries(facts.sources))
    list.append(Object.assign(document.createElement("li"), { textContent: `${what}: ${source}` }));
  list.append(Object.assign(document.createElement("li"), { textContent: "power: the word below each figure; hover it, or select the satellite, for the instrument or model" }));
  if (!again) buildNodes();
  buildCurves();
  curvesAt = 0;
}

function draw(fresh) {
  by("standing").textContent = state.past ? "in the past" : state.standing;
  by("standing").className = state.standing.startsWith("no end") && !state.past ? "silent" : "";
  by("orbit").textContent = `${state.scenarioS.toFixed(0)} of ${state.facts.duration_s} s`;
  by("rate").textContent = state.tokensPerS.toFixed(1);
  by("count").textContent = state.tokenCount;
  by("links").textContent = state.sky ? state.links.size : "-";
  const plan = `plan (${state.planPolicy}): ${state.planReason}`;
  if (by("plan").textContent !== plan) by("plan").textContent = by("plan").title = plan;
  if (!centred) { centred = true; centreMap(); }
  drawNodes();
  drawMap();
  drawText(fresh);
  drawEvents(fresh);
  drawScrubber();
  for (const words of fresh.died) notify(words);
  const now = performance.now();
  if (now - curvesAt > CURVES_MS || fresh.whole) { curvesAt = now; drawCurves(); drawHeat(); }
  if (state.selected >= 0 && now - detailAt > DETAIL_MS) { detailAt = now; send({ ask: "node", node: state.selected }); }
}

function notify(words) {
  by("notice").textContent = words;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { by("notice").textContent = ""; }, 8000);
}

function choose(node) {
  state.selected = state.selected === node ? -1 : node;
  state.own = null;
  detailAt = performance.now();
  drawNodes(); drawMap(); drawDetail([]);
  if (state.selected >= 0) send({ ask: "node", node });
  else drawCurves();
}

function takeNode(message) {
  if (message.node !== state.selected) return;
  drawDetail(message.readings);
  if (state.curves.spread) state.own = { node: message.node, ...message.curves };
  drawCurves();
}

by("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark", true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
  if (!localStorage.getItem("theme")) setTheme(event.matches ? "dark" : "light", false);
});

function setTheme(theme, keep) {
  document.documentElement.dataset.theme = theme;
  if (keep) localStorage.setItem("theme", theme);
  nameTheme();
  drawMap(); drawHeat(); buildCurves();
}

function nameTheme() {
  by("theme").textContent = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  by("theme").setAttribute("aria-label", `switch to ${by("theme").textContent} colours`);
}

new ResizeObserver(() => { drawMap(); drawHeat(); sizeCurves(); }).observe(document.querySelector("main"));
onSeek(send);
onChoose(choose);
onPick(choose);
onAsk((number) => explain(number, token));
nameTheme();
keepToken();
connect();
