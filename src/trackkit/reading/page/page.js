// The page: its head, the controls, and what happens when they change.

function buildTop() {
  const by = (status) => RUNS.filter((run) => valueOf(run, "status") === status).length;
  const counted = ["finished", "running", "failed", "stopped", "preempted", "damaged"].map((status) => [status, by(status)]).filter(([, count]) => count);
  const figures = [["runs", String(RUNS.length), counted.map(([status, count]) => `${count} ${status}`).join(", ")]];
  const best = RUNS.find((run) => run.place === 1);
  if (best && REPORT.result) figures.push([`best ${short(REPORT.result).replace(/^best\//, "")}`, plain(valueOf(best, REPORT.result)), nameOf(best)]);
  const sum = (name) => RUNS.map((run) => valueOf(run, name)).filter((value) => typeof value === "number").reduce((a, b) => a + b, 0);
  const [cost, gpu, hours] = ["cost", "final/gpu_hours", "duration_h"].map(sum);
  if (cost) figures.push(["cost", `$${cost < 100 ? cost.toFixed(2) : Math.round(cost)}`, `${plain(gpu || hours, "", 3)} ${gpu ? "GPU hours" : "hours"}`]);
  else if (hours) figures.push(["training", duration(hours), gpu ? `${plain(gpu, "", 3)} GPU hours` : ""]);
  document.querySelector("#overview .top").append(element("div", {}, element("h1", {}, REPORT.title), element("small", {}, `Report of ${REPORT.made} · TrackKit ${REPORT.version}`)), figuresOf(figures));
}

function buildControls() {
  const controls = document.getElementById("controls");
  const axes = element("span", { class: "choice" }, ...REPORT.state.axes.map((axis) => element("label", {}, element("input", { type: "radio", name: "axis", value: axis, checked: axis === state.axis, onchange: () => { state.axis = axis; redraw(); } }), element("span", {}, axis))));
  // A quarter of the slider is one more 9: 0.9, 0.99, 0.999.
  const slider = element("input", { type: "range", id: "smoothing", min: "0", max: "100", step: "1", "aria-label": "Smoothing" });
  slider.value = String(Math.round(-25 * Math.log10(1 - state.smoothing)));
  const shown = element("output", {}, smoothingText());
  slider.addEventListener("input", () => { state.smoothing = 1 - Math.pow(10, -Number(slider.value) / 25); shown.textContent = smoothingText(); redraw(); });
  const log = element("input", { type: "checkbox", id: "log", checked: state.log, onchange: () => { state.log = log.checked; redraw(); } });
  controls.append(element("fieldset", {}, "Axis ", axes), element("label", { title: "Weight of the past in the moving average; curves of at most 20 points are not smoothed" }, "Smoothing", slider, shown), element("label", {}, log, "Log scale"));
  if (Object.keys(REPORT.groups).length && RUNS.length > 1) {
    const choice = element("select", { id: "group" }, element("option", { value: "" }, "each run"), ...Object.keys(REPORT.groups).map((name) => element("option", { value: name, selected: name === state.group_by }, short(name))));
    choice.addEventListener("change", () => { state.group_by = choice.value; state.hover = null; drawLegend(); redraw(); });
    controls.append(element("label", { title: "A line for each run, or the mean ± one standard deviation of runs" }, "Lines", choice));
  }
  if (REPORT.metrics.length > 1) controls.append(menu("Metrics", REPORT.metrics.map((metric) => metric.key), (key) => state.metrics.includes(key), showMetric));
}

function smoothingText() { return state.smoothing ? String(Number(state.smoothing.toFixed(state.smoothing > 0.99 ? 4 : 2))) : "off"; }

function showMetric(key, isOn) {
  state.metrics = isOn ? [...state.metrics, key] : state.metrics.filter((each) => each !== key);
  for (const card of [...cards]) if (card.metric && !card.runs && !state.metrics.includes(card.metric.key)) { card.remove(); card.body.remove(); }
  const drawn = new Set([...cards].filter((card) => card.metric && !card.runs).map((card) => card.metric.key));
  for (const each of state.metrics) if (!drawn.has(each)) addCurve(each);
}

function addCurve(key) {
  const metric = REPORT.metrics.find((each) => each.key === key);
  if (metric) new CurveCard(document.querySelector("#curves .grid"), metric);
}

function drawLegend() {
  const legend = document.querySelector("#curves .legend"), item = (place, text) => {
    const dot = element("span", { class: "dot" });
    dot.style.background = colorAt(place);
    return element("span", {}, dot, text);
  };
  if (state.group_by) {
    const groups = groupsOf(state.shown).reverse();
    const figure = (group) => {
      const values = group.members.map((run) => valueOf(run, REPORT.result)).filter((value) => typeof value === "number");
      if (!values.length) return "";
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      const sd = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
      return `: ${plain(mean)}${values.length > 1 ? ` ± ${plain(sd, "", 2)}` : ""}`;
    };
    const most = groups.slice(0, 24).map((group) => item(group.place, `${group.name} (n=${group.members.length})${figure(group)}`));
    legend.replaceChildren(...most, groups.length > 24 ? element("span", {}, `and ${groups.length - 24} more`) : "", element("span", {}, `${REPORT.result ? `mean ± sd of ${short(REPORT.result)}; ` : ""}band: ± one standard deviation`));
  } else if (RUNS.length <= 6) legend.replaceChildren(...[...state.shown].sort((a, b) => (b.place ?? -1) - (a.place ?? -1)).map((run) => item(run.place, nameOf(run))));
  else {
    const ramp = element("span", { class: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${REPORT.scales[theme()].join(", ")})`;
    legend.replaceChildren(...(REPORT.result ? [element("span", {}, "worst", ramp, `best ${short(REPORT.result).replace(/^best\//, "")}`)] : [element("span", {}, "oldest", ramp, "newest")]), REPORT.places.includes(null) ? item(null, REPORT.result ? "no result" : "") : "");
  }
}

function buildNotes() {
  const notes = document.getElementById("notes"), say = (text) => notes.append(element("p", {}, text));
  if (REPORT.leftOut.length) say(`Metrics left out, for want of space: ${REPORT.leftOut.join(", ")}. Name one with --metric to have it in the page.`);
  if (REPORT.withoutCurves) say(`${REPORT.withoutCurves} runs are in the table only: curves are those of the ${RUNS.length - REPORT.withoutCurves} best.`);
  say("Curves are means of buckets of neighboring points, smoothed on demand; a band shows the extremes of a bucket, ✖ values that are NaN or infinite. The tables have the values as recorded: point at one for all its digits.");
}

buildTop();
buildControls();
document.getElementById("curves").append(element("div", { class: "legend" }), element("div", { class: "grid" }));
if (!REPORT.metrics.length) document.querySelector("#curves .grid").append(element("p", { class: "empty" }, "No run has recorded a metric."));
buildTable();
drawTable();
drawLegend();
drawDifferences();
buildNotes();
state.metrics.forEach(addCurve);
if (REPORT.parallel && RUNS.length > 1) {
  document.getElementById("parallel").hidden = false;
  const host = document.querySelector("#parallel .card");
  host.replaceChildren();
  new ParallelCard(host);
}
route();
addEventListener("hashchange", route);
darkness.addEventListener("change", () => { drawTable(); drawLegend(); drawDifferences(); redraw(); });
let resized, lastWidth = innerWidth;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { if (innerWidth !== lastWidth) { lastWidth = innerWidth; redraw(); } }, 150); });
