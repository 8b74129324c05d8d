// Charts: each draws when it is first seen, and again when the view changes.

const state = { ...REPORT.state, shown: RUNS, hover: null };
const cards = new Set();
const waiting = new Set();
let isDrawing = false;

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    entry.target.card.isSeen = entry.isIntersecting;
    if (entry.isIntersecting) entry.target.card.draw();
  }
}, { rootMargin: "200px" });

/** Draws what waits, one chart after the other, so that the page answers in between. */
async function drawWaiting() {
  if (isDrawing) return;
  isDrawing = true;
  while (waiting.size) {
    const card = waiting.values().next().value;
    waiting.delete(card);
    try { await card.drawNow(); } catch (error) { console.error(error); }
    await new Promise((done) => setTimeout(done));
  }
  isDrawing = false;
  document.documentElement.dataset.drawn = String(Math.round(performance.now()));
}

function redraw() {
  delete document.documentElement.dataset.drawn;
  for (const card of cards) card.change();
  drawWaiting();
}

/** Returns the groups of the runs shown: name, members, place; the best last. */
function groupsOf(runs) {
  const values = REPORT.groups[state.group_by], found = new Map();
  for (const run of runs) {
    const name = values[run.number] ?? "–";
    found.set(name, [...(found.get(name) || []), run]);
  }
  const mean = (members) => {
    const places = members.map((run) => run.place).filter((place) => place !== null);
    return places.length ? places.reduce((a, b) => a + b, 0) / places.length : -1;
  };
  const ordered = [...found].map(([name, members]) => ({ name, members, mean: mean(members) })).sort((a, b) => a.mean - b.mean);
  return ordered.map((group, number) => ({ ...group, number, place: ordered.length > 1 ? number / (ordered.length - 1) : 1 }));
}

class Card {
  constructor(parent) {
    this.chart = element("div", { class: "chart" });
    this.chart.card = this;
    this.isSeen = false;
    this.isStale = true;
    parent.append(this.chart);
    cards.add(this);
    seen.observe(this.chart);
  }

  change() { this.isStale = true; this.draw(); }

  draw() {
    if (this.isSeen && this.isStale) { waiting.add(this); drawWaiting(); }
  }

  remove() {
    seen.unobserve(this.chart);
    this.view?.finalize();
    cards.delete(this);
    waiting.delete(this);
  }

  /** Makes the view, without data; keeps one that fits. */
  async prepare(kind, width, height) {
    const wanted = `${kind} ${theme()} ${width} ${height}`;
    if (this.kind === wanted) return;
    this.view?.finalize();
    const look = { actions: false, renderer: "canvas", tooltip: false, hover: false, defaultStyle: false };
    const made = compiled.has(wanted)
      ? await vegaEmbed(this.chart, compiled.get(wanted), { ...look, mode: "vega" })
      : await vegaEmbed(this.chart, { ...REPORT.charts[kind], width, height, ...FIT }, { ...look, config: REPORT.looks[theme()] });
    compiled.set(wanted, made.vgSpec);
    this.chart.removeAttribute("style");
    [this.view, this.kind] = [made.view, wanted];
  }
}

const FIT = { autosize: { type: "fit", contains: "padding" }, padding: { left: 2, right: 14, top: 6, bottom: 4 } };
// Charts of one kind and size are compiled once.
const compiled = new Map();

class CurveCard extends Card {
  constructor(parent, metric, runs = null) {
    const note = element("small");
    const body = element("div", { class: "card" }, element("h3", {}, metric.key, note));
    parent.append(body);
    super(body);
    Object.assign(this, { metric, runs, note, body });
    this.chart.addEventListener("pointermove", (event) => this.point(event));
    this.chart.addEventListener("pointerleave", () => { hideTip(); hover(null); });
    this.chart.addEventListener("click", () => { if (this.near?.run && !this.runs) location.hash = `run/${this.near.run.number}`; });
  }

  async lines() {
    const [pool, curves] = await Promise.all([unpack("pool"), unpack(`metric-${REPORT.metrics.indexOf(this.metric)}`)]);
    const made = [];
    for (const run of this.runs || state.shown) {
      const curve = curves[run.number];
      if (!curve || !(state.axis in curve.x)) continue;
      const x = pool[curve.x[state.axis]];
      const bad = (curve.bad || []).map(([at, count]) => ({ x: x[at], count }));
      const band = curve.least ? { least: curve.least, most: curve.most } : {};
      made.push({ run, number: run.number, name: nameOf(run), color: colorAt(run.place), x, y: smooth(curve.mean, curve.size, state.smoothing), bad, band });
    }
    if (!state.group_by || this.runs) return made;
    const byRun = new Map(made.map((line) => [line.run, line]));
    return groupsOf(state.shown).map((group) => {
      const members = group.members.map((run) => byRun.get(run)).filter(Boolean);
      const look = { number: group.number, name: `${group.name} (n=${members.length})`, color: colorAt(group.place) };
      return members.length ? meanOf(members, look) : null;
    }).filter(Boolean);
  }

  async drawNow() {
    this.isStale = false;
    const lines = this.drawn = await this.lines();
    const width = this.chart.clientWidth, height = 230;
    if (!lines.length) {
      this.view?.finalize();
      this.view = this.kind = null;
      this.chart.replaceChildren(element("p", { class: "empty" }, "No run shown has this metric on this axis."));
      return;
    }
    const points = lines.flatMap((line) => pointsOf(line, Math.max(100, Math.floor(MOST_POINTS / lines.length))));
    const single = lines.length === 1 && lines[0].run ? lines[0].band : null;
    if (single?.least) Object.assign(lines[0], single);
    const band = lines.flatMap((line) => bandOf(line));
    let [xmin, xmax, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    const tall = (y) => { if (y !== null && (!state.log || y > 0)) { low = Math.min(low, y); high = Math.max(high, y); } };
    for (const point of points) { xmin = Math.min(xmin, point.x); xmax = Math.max(xmax, point.x); tall(point.y); }
    for (const row of band) { tall(row.lo); tall(row.hi); }
    const [ymin, ymax] = ends(low, high);
    if (xmin === xmax) xmax = xmin + 1;
    this.unit = state.axis === "time" ? (xmax > 7200 ? [3600, "h"] : xmax > 120 ? [60, "min"] : [1, "s"]) : [1, state.axis === "step" ? "steps" : state.axis];
    const by = this.unit[0];
    await this.prepare(state.log ? "log" : "linear", width, height);
    const marks = lines.flatMap((line) => spaced(line.bad, (xmax - xmin) / 50).map((each) => ({ x: each.x / by, c: line.color })));
    const scaled = (rows) => (by === 1 ? rows : rows.map((row) => ({ ...row, x: row.x / by })));
    this.scaled = scaled;
    this.low = ymin;
    this.ends = { ymin, ymax };
    this.view.signal("xmin", xmin / by).signal("xmax", xmax / by).signal("ymin", ymin).signal("ymax", ymax).signal("dim", lines.length > 12 ? 0.75 : 0.9);
    this.view.data("lines", scaled(points)).data("marks", marks).data("front", []).data("band", scaled(band.map((row) => this.clamp(row))));
    this.band = band;
    await this.view.resize().runAsync();
    const lost = lines.reduce((sum, line) => sum + line.bad.reduce((all, each) => all + each.count, 0), 0);
    const dropped = state.log ? lines.reduce((sum, line) => sum + line.y.filter((y) => y !== null && y <= 0).length, 0) : 0;
    this.note.textContent = [lost ? `✖ ${lost} NaN or infinite` : "", dropped ? `${dropped} not above 0` : "", this.unit[1]].filter(Boolean).join(" · ");
  }

  clamp(row) { return { ...row, lo: Math.min(Math.max(row.lo, this.ends.ymin), this.ends.ymax), hi: Math.min(Math.max(row.hi, this.ends.ymin), this.ends.ymax) }; }

  /** Shows one line in front, and the extremes of its buckets. */
  light(number) {
    if (!this.view || !this.drawn || this.runs || !this.isSeen) return;
    const line = this.drawn.find((each) => each.number === number);
    const front = line ? pointsOf(line) : [];
    const band = line ? bandOf({ ...line, ...(line.run ? line.band : {}) }) : this.band;
    this.view.signal("dim", line ? 0.12 : this.drawn.length > 12 ? 0.75 : 0.9);
    this.view.data("front", this.scaled(front)).data("band", this.scaled(band.map((row) => this.clamp(row)))).runAsync();
  }

  /** Finds the line nearest to the pointer. */
  point(event) {
    if (!this.view || !this.drawn?.length) return;
    const box = this.chart.querySelector("canvas").getBoundingClientRect(), [left, top] = this.view.origin();
    const x = this.view.scale("x").invert(event.clientX - box.left - left) * this.unit[0], up = this.view.scale("y");
    let near = null, least = 40;
    for (const line of this.drawn) {
      const y = valueAt(line, x);
      if (y === null || (state.log && y <= 0)) continue;
      const away = Math.abs(up(y) + top - (event.clientY - box.top));
      if (away < least) [near, least] = [{ ...line, at: y }, away];
    }
    this.near = near;
    hover(near && !this.runs ? near.number : null);
    if (near) showTip(event, near.name, `${this.metric.key} ${plain(near.at)} at ${plain(x / this.unit[0], "", 3)} ${this.unit[1]}`, near.color);
    else hideTip();
  }
}

// Of all lines of a chart: it is narrower than a line with more. The line in front has all its points.
const MOST_POINTS = 9000;

/** Returns a line's points; of more than the most, means of neighbors. */
function pointsOf(line, most = Infinity) {
  const size = Math.max(1, Math.ceil(line.y.length / most)), made = [];
  for (let start = 0; start < line.y.length; start += size) {
    const end = Math.min(start + size, line.y.length);
    let sum = 0, count = 0;
    for (let i = start; i < end; i++) if (line.y[i] !== null && (!state.log || line.y[i] > 0)) { sum += line.y[i]; count++; }
    made.push({ r: line.number, c: line.color, x: line.x[end - 1], y: count ? sum / count : null });
  }
  return made;
}

/** Returns the marks that don't overlap. */
function spaced(marks, room) {
  let last = -Infinity;
  return marks.filter((each) => each.x - last >= room && ((last = each.x), true));
}

function bandOf(line) {
  if (!line.least) return [];
  return line.x.map((x, i) => ({ r: line.number, c: line.color, x, lo: line.least[i], hi: line.most[i] })).filter((row) => row.lo !== null && row.hi !== null);
}

/** Returns the ends of an axis: those of the values and 4% more. */
function ends(low, high) {
  if (low > high) return state.log ? [0.1, 1] : [0, 1];
  if (state.log) {
    const room = high > low ? Math.pow(high / low, 0.04) : 2;
    return [low / room, high * room];
  }
  const room = 0.04 * (high - low) || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

class ParallelCard extends Card {
  async drawNow() {
    this.isStale = false;
    const { heads, ticks, places } = REPORT.parallel;
    const width = Math.max(this.chart.clientWidth, heads.length * 105);
    this.chart.classList.toggle("wide", width > this.chart.clientWidth);
    await this.prepare("parallel", width, 290);
    this.rows = state.shown.flatMap((run) => places.map((places, dim) => ({ r: run.number, dim, pos: places[run.number], c: colorAt(run.place) })).filter((row) => row.pos !== null));
    this.view.data("heads", heads).data("ticks", ticks).data("lines", this.rows).data("front", []);
    await this.view.resize().runAsync();
  }

  light(number) {
    if (!this.view || !this.isSeen) return;
    const group = number !== null && state.group_by ? groupsOf(state.shown)[number]?.members.map((run) => run.number) : null;
    const rows = number === null ? [] : this.rows.filter((row) => (group ? group.includes(row.r) : row.r === number));
    this.view.signal("dim", rows.length ? 0.12 : 0.75).data("front", rows).runAsync();
  }
}

/** Brings a run (or a group, where runs are grouped) to the front everywhere; null for none. */
function hover(number) {
  if (state.hover === number) return;
  state.hover = number;
  requestAnimationFrame(() => {
    if (state.hover !== number) return;
    for (const card of cards) card.light(number);
    for (const row of document.querySelectorAll("#runs tbody tr")) row.classList.toggle("lit", !state.group_by && Number(row.dataset.run) === number);
  });
}

const tip = document.getElementById("tip");

function showTip(event, title, text, color) {
  tip.replaceChildren(element("b", {}, title), text);
  tip.style.borderLeft = `4px solid ${color}`;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(4, event.clientY - height - 12)}px`;
}

function hideTip() { tip.hidden = true; }
