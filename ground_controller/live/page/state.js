// What the page knows, built from the messages of the server. Nothing here touches the document.

export const state = {
  facts: null, sky: null, curves: null,
  past: false, standing: "", hostS: 0, lastHostS: 0, scenarioS: 0, tokensPerS: 0, tokenCount: 0,
  planPolicy: "", planReason: "", underSun: null,
  nodes: [],                // {name, satellite, sky, powerW, temperatureC, charge, sunlit, calls, state, cause, powerBy, lastReadS}
  links: new Set(),         // indices into sky.pairs
  requests: new Map(),      // number -> {request, domain, prompt, ended, restarts}
  tokens: [],               // [number, request, position, text, degraded, sinceUs], the newest of them
  events: [], counts: [],
  selected: -1,             // node
  own: null,                // curves of the selected node where it has none among all
};

const MOST_TOKENS = 1500, MOST_EVENTS = 2000, MOST_POINTS = 2400;

export function takeHello(message) {
  const facts = message.facts, sky = message.sky;
  state.facts = facts; state.sky = sky; state.curves = message.curves;
  state.nodes = facts.nodes.map((name, i) => ({
    name, satellite: facts.satellites[i], sky: sky ? sky.names.indexOf(facts.satellites[i]) : -1,
    powerW: null, temperatureC: null, charge: null, sunlit: null, calls: null, state: "waiting", cause: "", powerBy: "", lastReadS: null,
  }));
}

// Returns what is new: {tokens, events, died: names of nodes, whole}.
export function takePicture(m) {
  const fresh = { tokens: m.tokens || [], events: m.events || [], requests: m.requests || [], died: [], whole: m.whole };
  if (m.whole) {
    state.links = new Set(); state.requests = new Map(); state.tokens = []; state.events = []; state.counts = [];
  }
  Object.assign(state, {
    past: m.past, standing: m.standing, hostS: m.host_s, lastHostS: m.last_host_s, scenarioS: m.scenario_s,
    tokensPerS: m.tokens_per_s, tokenCount: m.token_count, planPolicy: m.plan_policy || "", planReason: m.plan_reason || "",
    underSun: m.under_sun_deg || null,
  });
  for (const [i, power, temperature, charge, sunlit, calls] of m.rows || [])
    Object.assign(state.nodes[i], { powerW: power, temperatureC: temperature, charge, sunlit, calls });
  for (const [i, now, cause, powerBy, lastReadS] of m.states || []) {
    const node = state.nodes[i];
    if (now === "dead" && node.state !== "dead" && !m.whole) fresh.died.push(`${node.name} is dead: ${cause}`);
    Object.assign(node, { state: now, cause, powerBy, lastReadS });
  }
  for (const pair of m.links_off || []) state.links.delete(pair);
  for (const pair of m.links_on || []) state.links.add(pair);
  for (const one of fresh.requests) state.requests.set(one.request, one);
  state.tokens.push(...fresh.tokens);
  if (state.tokens.length > MOST_TOKENS) state.tokens.splice(0, state.tokens.length - MOST_TOKENS);
  state.events.push(...fresh.events);
  if (state.events.length > MOST_EVENTS) state.events.splice(0, state.events.length - MOST_EVENTS);
  if (m.counts && m.counts.length) state.counts = m.counts;
  if (!m.whole && !m.past) grow();
  return fresh;
}

// The curves go on with what the picture said.
function grow() {
  const c = state.curves, at = c.host_s;
  if (at.length && state.hostS <= at[at.length - 1]) return;
  at.push(state.hostS);
  c.tokens_per_s.push(state.tokensPerS);
  for (const [line, key] of [["power_w", "powerW"], ["temperature_c", "temperatureC"], ["charge", "charge"]]) {
    const values = state.nodes.map((node) => node[key]);
    (c.spread ? spread(values) : values).forEach((value, i) => c[line][i].push(value));
    if (state.own) state.own[line][0].push(state.nodes[state.own.node][key]);
  }
  if (state.own) state.own.host_s.push(state.hostS);
  for (const one of [c, state.own]) if (one && one.host_s.length > MOST_POINTS) halve(one);
}

function spread(values) {
  const found = values.filter((value) => value !== null).sort((a, b) => a - b);
  if (!found.length) return [null, null, null];
  const middle = found.length >> 1;
  return [found[0], found.length % 2 ? found[middle] : (found[middle - 1] + found[middle]) / 2, found[found.length - 1]];
}

function halve(c) {
  const half = (list) => list.filter((_, i) => i % 2 === 0);
  c.host_s = half(c.host_s);
  if (c.tokens_per_s) c.tokens_per_s = half(c.tokens_per_s);
  for (const line of ["power_w", "temperature_c", "charge"]) c[line] = c[line].map(half);
}

// Where a satellite of the sky is now: [longitude, latitude] in degrees, or null.
export function place(sky, at = state.scenarioS) {
  const s = state.sky;
  if (!s || sky < 0 || s.track_s.length < 2) return null;
  const step = s.track_s[1] - s.track_s[0];
  const x = Math.min(Math.max(at / step, 0), s.track_s.length - 1);
  const i = Math.min(Math.floor(x), s.track_s.length - 2), u = x - i;
  const lon = s.longitude_deg[sky], lat = s.latitude_deg[sky];
  let turn = lon[i + 1] - lon[i];
  if (turn > 180) turn -= 360; else if (turn < -180) turn += 360;
  return [((lon[i] + u * turn + 540) % 360) - 180, lat[i] + u * (lat[i + 1] - lat[i])];
}
