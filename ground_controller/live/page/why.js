// Why a token came out of these experts on these hosts: what the server derived from the record, as tables.
import { state } from "./state.js";
import { markAsked, focusToken } from "./text.js";

const panel = document.getElementById("why"), title = document.getElementById("why-title"), body = document.getElementById("why-body");
let latest = 0;

export async function explain(number, token) {
  latest = number;
  markAsked(number);
  panel.hidden = false;
  title.textContent = `token ${number}: reading the record`;
  body.textContent = "";
  title.focus();
  let found;
  try {
    const answer = await fetch(`/why/${number}`, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    found = await answer.json();
  } catch (error) {
    found = { error: `the dashboard does not answer: ${error.message}` };
  }
  if (latest !== number) return;
  if (found.error) {
    title.textContent = `token ${number} cannot be explained`;
    const again = element("button", "ask again");
    again.addEventListener("click", () => explain(number, token));
    body.append(element("p", found.error), element("p", found.hint || ""), again);
    return;
  }
  show(found);
}

function element(name, words = "", className = "") {
  const made = document.createElement(name);
  made.textContent = words;
  if (className) made.className = className;
  return made;
}

function table(headings, rows, numeric = []) {
  const made = document.createElement("table"), head = made.createTHead().insertRow(), body_ = made.createTBody();
  headings.forEach((words, n) => { const th = element("th", words, numeric.includes(n) ? "n" : ""); th.scope = "col"; head.append(th); });
  for (const row of rows) {
    const line = body_.insertRow();
    row.forEach((words, n) => { const cell = line.insertCell(); cell.textContent = words; if (numeric.includes(n)) cell.className = "n"; });
  }
  return made;
}

const ms = (us) => `${(us / 1000).toFixed(2)} ms`;
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

function show(why) {
  title.textContent = `token ${why.number}: ${JSON.stringify(why.text)}`;
  body.append(element("p", `number ${why.token} of the vocabulary, request ${why.request}, position ${why.position}, ${ms(why.since_us)} after ${why.first ? "its request began" : "the one before"}`));
  body.append(element("p", `times: ${state.facts.sources["times of frames and layers"]}; scores and picks: as recorded by the gateways`, "over"));
  for (const reason of why.attempts) body.append(element("p", `begun again before it: ${reason}`, "restart"));
  if (why.degraded.length) body.append(element("p", `degraded: ${why.degraded.join(", ")}`, "restart"));
  for (const plan of why.plans) {
    body.append(element("h3", `plan ${plan.version} of orbit second ${plan.issued_s}${plan.expired ? ", expired: plain top-k instead" : ""}`));
    body.append(element("p", `${plan.policy}: ${plan.reason}`));
    body.append(element("p", `${plan.k_min} to ${plan.k_max} experts, coverage ${plan.coverage}, threshold ${plan.threshold}`, "over"));
  }
  why.layers.forEach(layer);
  body.append(element("h3", "nodes when the plan was made (temperature, charge, sunlight: the twin's, modelled)"));
  body.append(table(["node", "temperature", "charge", "sunlit", "in service"], why.nodes.map((node) => [
    node.node, `${node.temperature_c.toFixed(1)} C`, percent(node.charge), percent(node.sunlit, 0),
    node.alive ? node.in_service ? "yes" : "no" : "dead",
  ]), [1, 2, 3]));
}

function layer(one) {
  body.append(element("h3", `layer ${one.layer} at ${one.gateway}`));
  const away = one.unreachable.length ? `; out of reach: ${one.unreachable.join(", ")}` : "";
  body.append(element("p", `trunk ${ms(one.trunk_us)}, link ${ms(one.link_us)}, queue ${ms(one.queue_us)}, experts ${ms(one.expert_us)}; ` +
    `${percent(one.kept_mass)} of the model's own mass${away}`, "over"));
  const picks = table(["expert", "score", "weight", "price", "utility", "host", "why there"], one.picks.map((pick) => [
    one.top_k.includes(pick.expert) ? pick.expert : `${pick.expert} *`, pick.score.toFixed(3),
    pick.mixing.toFixed(3), pick.price.toFixed(4), pick.utility.toFixed(3), pick.host, pick.why_host,
  ]), [1, 2, 3, 4]);
  picks.className = "picks";
  body.append(picks);
  for (const over of one.passed_over)
    body.append(element("p", `expert ${over.expert} (score ${over.score.toFixed(3)}) not used: ${over.why}`, "over"));
  if (one.picks.some((pick) => !one.top_k.includes(pick.expert))) body.append(element("p", "*: not among the model's own picks", "over"));
  if (one.rerouted || one.lost) body.append(element("p", `${one.rerouted} rerouted, ${one.lost} lost`, "restart"));
}

function close() {
  if (panel.hidden) return;
  panel.hidden = true;
  latest = 0;
  focusToken();
}

document.getElementById("why-close").addEventListener("click", close);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
