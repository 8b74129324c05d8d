"use strict";
// Numbers: unpacking of curves, smoothing, means over groups, colours, and how values are written.

const REPORT = JSON.parse(document.getElementById("report-data").textContent);
const unpacked = new Map();

/** Returns what a script element holds: base64 of gzipped JSON. */
function unpack(id) {
  if (!unpacked.has(id)) unpacked.set(id, unpackNow(document.getElementById(id).textContent));
  return unpacked.get(id);
}

async function unpackNow(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const FEW = 20;

/** Smooths the means of buckets as an exponential moving average over their points would; not those of few points. */
function smooth(means, size, weight) {
  if (!weight || means.length <= FEW) return means;
  const past = Math.pow(weight, size);
  let value = 0, total = 0;
  return means.map((mean) => {
    if (mean === null) return null;
    value = past * value + (1 - past) * mean;
    total = past * total + (1 - past);
    return value / total;
  });
}

/** Returns the value of a line at x, by linear interpolation; null beyond its ends. */
function valueAt(line, x) {
  const { x: xs, y: ys } = line, n = xs.length;
  if (!n || x < xs[0] || x > xs[n - 1]) return null;
  let low = 0, high = n - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  if (x >= xs[high]) return ys[high];
  const part = xs[high] > xs[low] ? (x - xs[low]) / (xs[high] - xs[low]) : 0;
  return ys[low] === null || ys[high] === null ? ys[low] : ys[low] + part * (ys[high] - ys[low]);
}

/** Returns the mean of lines, with a band of one standard deviation (n - 1). */
function meanOf(lines, look) {
  const full = lines.map((line) => {
    const kept = line.y.map((y, i) => i).filter((i) => line.y[i] !== null);
    return { x: kept.map((i) => line.x[i]), y: kept.map((i) => line.y[i]) };
  }).filter((line) => line.x.length);
  let x = [...new Set(full.flatMap((line) => line.x))].sort((a, b) => a - b);
  if (x.length > 400) {
    const [first, last] = [x[0], x[x.length - 1]];
    x = Array.from({ length: 200 }, (_, i) => first + (last - first) * i / 199);
  }
  const made = { ...look, x, y: [], least: [], most: [], bad: lines.flatMap((line) => line.bad) };
  for (const at of x) {
    const values = full.map((line) => valueAt(line, at)).filter((value) => value !== null);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const spread = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
    made.y.push(values.length ? mean : null);
    made.least.push(mean - spread);
    made.most.push(mean + spread);
  }
  return made;
}

const darkness = matchMedia("(prefers-color-scheme: dark)");
const theme = () => (darkness.matches ? "dark" : "light");

/** Returns the colour of a place from 0 (the worst) to 1 (the best). */
function colorAt(place) {
  if (place === null) return REPORT.withoutRank[theme()];
  const stops = REPORT.scales[theme()], at = place * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
  const parts = [1, 3, 5].map((from) => {
    const [a, b] = [stops[low], stops[low + 1]].map((stop) => parseInt(stop.slice(from, from + 2), 16));
    return Math.round(a + (b - a) * (at - low)).toString(16).padStart(2, "0");
  });
  return "#" + parts.join("");
}

/** Returns a value as a table shows it, with a few significant digits. */
function plain(value, name = "", digits = 4) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (name === "age_h" || name === "duration_h" || name.endsWith("/duration_h")) return duration(value);
  if (Number.isInteger(value)) return Math.abs(value) < 1e15 ? String(value) : value.toExponential(digits - 1);
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-4) return value.toExponential(digits - 1).replace(/\.?0+e/, "e");
  return size >= 10 ** digits ? String(Math.round(value)) : String(Number(value.toPrecision(digits)));
}

function duration(hours) {
  if (hours * 3600 < 90) return `${Math.round(hours * 3600)} s`;
  if (hours * 60 < 90) return `${Math.round(hours * 60)} min`;
  return hours < 48 ? `${hours.toFixed(1)} h` : `${(hours / 24).toFixed(1)} d`;
}

/** Returns an element; texts among the children are never read as HTML. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const columnNamed = new Map(REPORT.columns.map((column) => [column.name, column]));
const RUNS = REPORT.places.map((place, number) => ({ number, place, page: REPORT.pages[number] }));
const valueOf = (run, name) => {
  const column = columnNamed.get(name);
  return column === undefined ? null : "values" in column ? column.values[run.number] : column.same;
};
const nameOf = (run) => String(valueOf(run, "name") || valueOf(run, "id") || "?");
const short = (name) => name.replace(/^hparams\//, "").replace(/^final\//, "").replace(/^(age|duration)_h$/, "$1");
