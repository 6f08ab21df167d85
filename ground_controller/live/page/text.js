// The text as it comes, request by request. Arrow keys move over the tokens, Enter or a click asks why.
import { state } from "./state.js";

const box = document.getElementById("text");
const MOST_BLOCKS = 24;
const blocks = new Map();      // request -> {block, head, prompt, tokens}
let ask = () => {}, here = null;

export function onAsk(function_) { ask = function_; }

export function drawText(fresh) {
  if (fresh.whole) { blocks.clear(); box.textContent = ""; here = null; }
  const add = fresh.whole ? state.tokens : fresh.tokens, touched = new Set(fresh.requests.map((one) => one.request));
  for (const token of add) {
    touched.add(token[1]);
    const span = document.createElement("span");
    span.className = token[4] ? "token degraded" : "token";
    span.setAttribute("role", "button");
    span.tabIndex = -1;
    span.dataset.number = token[0];
    span.textContent = token[3];
    span.title = token[4] ? `degraded: ${token[4]}` : "";
    block(token[1]).tokens.append(span);
  }
  for (const request of touched) head(request);
  trim();
  if (!here || !here.isConnected) move(box.querySelector(".token"), false);
}

function block(request) {
  const known = blocks.get(request);
  if (known) return known;
  const made = document.createElement("div"), headline = document.createElement("h3");
  const prompt = document.createElement("span"), tokens = document.createElement("span");
  made.className = "request"; prompt.className = "prompt"; tokens.className = "tokens";
  made.append(headline, prompt, tokens);
  const after = [...blocks.keys()].filter((other) => other < request).sort((a, b) => b - a)[0];
  box.insertBefore(made, after === undefined ? null : blocks.get(after).block);
  const found = { block: made, headline, prompt, tokens };
  blocks.set(request, found);
  return found;
}

function head(request) {
  const one = state.requests.get(request);
  if (!one) return;
  const { headline, prompt } = block(request);
  headline.textContent = "";
  const name = document.createElement("b");
  name.textContent = `request ${request}`;
  headline.append(name, `${one.domain ? `, ${one.domain}` : ""}: ${one.ended || "goes on"}`);
  for (const reason of one.restarts) {
    const again = document.createElement("span");
    again.className = "restart";
    again.textContent = `; began again: ${reason}`;
    headline.append(again);
  }
  if (prompt.textContent !== one.prompt) prompt.textContent = one.prompt;
}

function trim() {
  const extra = [...blocks.keys()].sort((a, b) => a - b).slice(0, Math.max(0, blocks.size - MOST_BLOCKS));
  for (const request of extra) { blocks.get(request).block.remove(); blocks.delete(request); }
}

function move(span, focus = true) {
  if (!span) return;
  if (here) here.tabIndex = -1;
  here = span;
  here.tabIndex = 0;
  if (focus) here.focus();
}

export function markAsked(number) {
  box.querySelector('[aria-current="true"]')?.removeAttribute("aria-current");
  box.querySelector(`[data-number="${number}"]`)?.setAttribute("aria-current", "true");
}

export const focusToken = () => here?.focus();

box.addEventListener("click", (event) => {
  const span = event.target.closest(".token");
  if (span) { move(span); ask(Number(span.dataset.number)); }
});

box.addEventListener("keydown", (event) => {
  const span = event.target.closest(".token");
  if (!span) return;
  const all = [...box.querySelectorAll(".token")], i = all.indexOf(span), mine = span.parentElement;
  const others = [...box.querySelectorAll(".tokens")].filter((one) => one.childElementCount), at = others.indexOf(mine);
  const to = {
    ArrowRight: () => all[i + 1], ArrowLeft: () => all[i - 1], Home: () => mine.firstElementChild, End: () => mine.lastElementChild,
    ArrowDown: () => others[at + 1]?.firstElementChild, ArrowUp: () => others[at - 1]?.firstElementChild,
  }[event.key];
  if (to) { event.preventDefault(); move(to()); }
  else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); ask(Number(span.dataset.number)); }
});
