// What happened, newest first, with its cause.
import { state } from "./state.js";

const list = document.getElementById("events"), MOST = 300;
const MARKS = { bad: "!", notice: "*", info: "" };

export function drawEvents(fresh) {
  if (fresh.whole) list.textContent = "";
  for (const [, at, weight, node, what, cause] of fresh.whole ? state.events.slice(-MOST) : fresh.events) {
    const item = document.createElement("li"), time = document.createElement("time"), mark = document.createElement("span");
    const name = document.createElement("b");
    item.className = weight;
    time.textContent = `${at.toFixed(0)} s`;
    mark.className = "mark"; mark.textContent = MARKS[weight];
    name.textContent = node ? `${node} ${what}` : what;
    item.append(mark, time, name, cause ? `: ${cause}` : "");
    list.prepend(item);
  }
  while (list.childElementCount > MOST) list.lastElementChild.remove();
}
