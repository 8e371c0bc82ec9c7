// What all parts share: elements, numbers, colours, the tip and the chosen item.

// h makes an element: text stays text.
function h(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v === true) e.setAttribute(k, "");
    else if (v !== undefined && v !== null && v !== false) e.setAttribute(k, v);
  }
  e.append(...children.filter(c => c !== undefined && c !== null));
  return e;
}

// s makes an element of a picture.
function s(tag, attributes, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

// seen puts a name in quotes that shows nothing, or ends in what shows nothing.
function seen(text) { return text === "" || /^ | $/.test(text) ? '"' + text + '"' : text; }

// name shows a text from a file, cut for the eye.
function name(text, code) {
  const e = h("span", { class: code ? "cut code" : "cut" }, h("bdi", {}, code && text ? seen(text) : text));
  if (text.length > 60) e.title = text;
  return e;
}

// num writes a number with four digits, and the minus sign of the texts around it.
function num(x) {
  if (x === null || x !== x) return "–";
  if (!isFinite(x)) return x > 0 ? "∞" : "-∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  let t;
  if (size < 1e-3 || size >= 1e6) {
    t = Number(x.toPrecision(4)).toExponential().replace("e+", "e");
  } else if (Number.isInteger(x)) {
    t = x.toLocaleString("en");
  } else {
    t = String(Number(x.toPrecision(4)));
  }
  return t;
}

// val reads a number of the data: null is none, text an infinity.
function val(x) { return x === null || x === undefined ? NaN : Number(x); }

// Colours go from little to much in even steps of lightness (L of OKLab), so that equal
// steps look equal, and through hues that all eyes tell apart. In the dark much is light.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const ends = { light: [0.955, 0.36], dark: [0.30, 0.93] };

function oklch(L, C, hue) {
  const a = C * Math.cos(hue * Math.PI / 180), b = C * Math.sin(hue * Math.PI / 180);
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3, m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3, n = (L - 0.0894841775 * a - 1.2914855480 * b) ** 3;
  return [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * n, -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * n, -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * n];
}

// color returns the colour of t from 0 to 1. All of them are within sRGB.
function color(t) {
  const [from, to] = dark.matches ? ends.dark : ends.light;
  const rgb = oklch(from + (to - from) * t, Math.min(0.091, 0.03 + 0.2 * t), dark.matches ? 275 - 165 * t : 105 + 170 * t);
  return "rgb(" + rgb.map(x => Math.round(255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055))).join(" ") + ")";
}

let ramp = [];
function shade(t) {
  if (!ramp.length) for (let i = 0; i <= 255; i++) ramp.push(color(i / 255));
  return ramp[Math.round(255 * Math.min(1, Math.max(0, t)))];
}

// inkOn is the colour of text that is read best on a shade.
function inkOn(t) {
  const [from, to] = dark.matches ? ends.dark : ends.light;
  return from + (to - from) * t > 0.66 ? "#16181b" : "#ffffff";
}

// redraw calls what draws on a size or a scheme again when that changes.
const drawers = [];
function redraw(draw, of) {
  drawers.push([draw, of]);
  draw();
}
let width = 0;
function drawAll() { for (const [draw, of] of drawers) if (of.isConnected) draw(); }
dark.addEventListener("change", () => { ramp = []; drawAll(); });
window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; drawAll(); } });

// scaleOf maps values to 0 to 1 and tells marks with their places.
function scaleOf(from, to, log) {
  if (log) {
    const a = Math.log10(from), b = Math.log10(to), d = b - a || 1;
    const at = x => x > 0 ? (Math.log10(x) - a) / d : 0;
    let marks = [];
    const step = Math.max(1, Math.ceil((Math.floor(b + 1e-9) - Math.ceil(a - 1e-9)) / 5));
    for (let k = Math.floor(a); k <= b + 1e-9; k += step) marks.push(...(d > 2.2 ? [1] : d > 1.2 ? [1, 3] : [1, 2, 5]).map(m => m * 10 ** k));
    marks = marks.filter(m => m >= from * (1 - 1e-9) && m <= to * (1 + 1e-9)).map(m => Number(m.toPrecision(3)));
    if (marks.length < 2) marks = [from, Math.sqrt(from * to), to].map(x => Number(x.toPrecision(2)));
    return { at, marks };
  }
  const d = to - from || 1, raw = d / 4, unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(m => m * unit).find(x => x >= raw * 0.999);
  const marks = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + 1e-9 * d; k++) marks.push(Number((k * step).toPrecision(12)));
  return { at: x => (x - from) / d, marks };
}

// tip shows lines beside a place in the window, below a title.
const tip = document.getElementById("tip");
function showTip(x, y, title, lines) {
  tip.replaceChildren(h("b", {}, h("bdi", {}, title)), ...lines.map(l => h("div", {}, l)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(x + 14, window.innerWidth - box.width - 8)) + "px";
  tip.style.top = (y + 18 + box.height > window.innerHeight ? Math.max(8, y - box.height - 12) : y + 18) + "px";
}
function hideTip() { tip.hidden = true; }
document.addEventListener("scroll", hideTip, true);

function say(text) { document.getElementById("said").textContent = text; }

// The chosen item: who shows it is told.
let chosen = -1;
const watchers = [];
function choose(i, go) {
  chosen = i;
  for (const w of watchers) w(i, go);
}

function head(part, ...tools) {
  return h("div", { class: "head" }, h("div", {}, h("h2", {}, part.title), part.note ? h("p", { class: "note" }, part.note) : null),
    tools.length ? h("div", { class: "tools" }, ...tools) : null);
}
