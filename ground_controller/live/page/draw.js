// Canvases that are as sharp as the screen, and the colours of the theme.

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// The canvas' context with CSS pixels as its unit, cleared, and its size: {c, width, height}; null while it is hidden.
export function begin(canvas) {
  const width = canvas.clientWidth, height = canvas.clientHeight, scale = devicePixelRatio || 1;
  if (!width || !height) return null;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const c = canvas.getContext("2d");
  c.setTransform(scale, 0, 0, scale, 0, 0);
  c.clearRect(0, 0, width, height);
  return { c, width, height };
}

// The shape that stands for a state: it is told by its form, the colour only repeats it.
export function mark(c, x, y, size, state, fill) {
  c.beginPath();
  if (state === "dead") {
    c.lineWidth = size / 2.2;
    c.strokeStyle = fill;
    c.moveTo(x - size, y - size); c.lineTo(x + size, y + size);
    c.moveTo(x + size, y - size); c.lineTo(x - size, y + size);
    c.stroke();
    return;
  }
  c.lineWidth = 2;
  c.strokeStyle = c.fillStyle = fill;
  c.arc(x, y, size, 0, 2 * Math.PI);
  if (state === "serving") c.fill();
  else c.stroke();
  if (state === "no new work") {
    c.beginPath(); c.arc(x, y, size, Math.PI / 2, 1.5 * Math.PI); c.fill();
  }
}

export const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3], [10, 4], [6, 2, 2, 2, 2, 2]];

// Colour and dashes of a node's curve and of its mark on the map.
export function lineOf(node) {
  return { colour: colour(`s${node % 8}`), dash: DASHES[Math.floor(node / 8 + node) % DASHES.length] };
}
