// What differs between the runs ticked, and the page of one run.

const MOST_PICKED = 8;
const picked = new Set(sorted(RUNS).filter((run) => columnNamed.size && valueOf(run, "status") !== "damaged").slice(0, 3));

function pick(run, isOn) {
  if (isOn) picked.add(run); else picked.delete(run);
  drawDifferences();
}

function drawDifferences() {
  const section = document.getElementById("differences"), runs = sorted([...picked]).slice(0, MOST_PICKED);
  section.querySelectorAll(":scope > :not(h2)").forEach((each) => each.remove());
  section.hidden = RUNS.length < 2;
  if (runs.length < 2) return void section.append(element("p", { class: "muted" }, "Tick two or more runs in the table."));
  const names = REPORT.columns.filter((column) => column.kind === "config" && "values" in column).map((column) => column.name);
  const rows = names.filter((name) => new Set(runs.map((run) => JSON.stringify(valueOf(run, name)))).size > 1);
  const hint = `${rows.length} of ${REPORT.columns.filter((column) => column.kind === "config").length} settings differ between the ${runs.length} runs ticked in the table${picked.size > runs.length ? ` (of ${picked.size}, the first ${runs.length})` : ""}.`;
  section.append(element("p", { class: "muted" }, hint));
  if (!rows.length) return;
  const head = element("tr", {}, element("th", {}, "setting"), ...runs.map((run) => {
    const dot = element("span", { class: "dot" });
    dot.style.background = colorAt(run.place);
    return element("th", { scope: "col" }, dot, " ", element("a", { href: `#run/${run.number}` }, nameOf(run)));
  }));
  const body = rows.map((name) => element("tr", {}, element("th", { scope: "row" }, name), ...runs.map((run) => element("td", { title: String(valueOf(run, name) ?? "") }, plain(valueOf(run, name), name, 6)))));
  section.append(element("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Differences in config" }, element("table", { class: "compare" }, element("thead", {}, head), element("tbody", {}, ...body))));
}

/** Shows the page of the run in the address (`#run/3`), or the overview. */
function route() {
  const [, number] = /^#run\/(\d+)$/.exec(location.hash) || [], run = number === undefined ? null : RUNS[Number(number)];
  const page = document.getElementById("run"), overview = document.getElementById("overview");
  for (const card of [...cards]) if (card.runs) card.remove();
  hideTip();
  hover(null);
  page.hidden = !run;
  overview.hidden = Boolean(run);
  page.replaceChildren();
  if (run) { buildRun(page, run); scrollTo(0, 0); document.title = `${nameOf(run)} · ${REPORT.title}`; }
  else document.title = REPORT.title;
}

function buildRun(page, run) {
  const facts = REPORT.columns.filter((column) => column.kind === "fact").map((column) => column.name).filter((name) => !["name", "notes", "error"].includes(name));
  const status = String(valueOf(run, "status") ?? ""), ranked = REPORT.result && typeof valueOf(run, REPORT.result) === "number";
  const figures = [["status", status, ""], ranked ? [short(REPORT.result), plain(valueOf(run, REPORT.result)), rankText(run)] : null, ["duration", plain(valueOf(run, "duration_h"), "duration_h"), `${plain(valueOf(run, "steps"))} steps`]];
  page.append(element("nav", {}, element("a", { href: "#" }, "← All runs")));
  page.append(element("header", { class: "top" }, element("div", {}, element("h1", {}, nameOf(run)), element("small", {}, String(valueOf(run, "id") ?? ""))), figuresOf(figures)));
  const dd = page.querySelector(".figures dd");
  if (/^\w+$/.test(status)) dd.classList.add(`status-${status}`);
  for (const name of ["error", "notes"]) if (valueOf(run, name)) page.append(element("p", { class: name === "error" ? "bad" : "" }, String(valueOf(run, name))));
  if (run.page.findings.length) page.append(element("h2", {}, "Findings"), element("div", { class: "card" }, element("ul", { class: "findings" }, ...run.page.findings.map(findingOf))));
  const metrics = [...REPORT.metrics].filter((metric) => metric.runs.includes(run.number));
  if (metrics.length) {
    const grid = element("div", { class: "grid" });
    page.append(element("h2", {}, "Curves"), element("p", { class: "muted" }, "The band is between the least and the greatest value of each bucket of points."), grid);
    for (const metric of metrics) new CurveCard(grid, metric, [run]);
  }
  if (run.page.console.length) {
    const shown = run.page.console.length, all = run.page.lines;
    const box = element("pre", { tabindex: "0", "aria-label": "Console" }, run.page.console.join("\n"));
    page.append(element("h2", {}, "Console"), element("p", { class: "muted" }, shown < all ? `The last ${shown} of ${all} lines.` : `${all} lines.`), element("div", { class: "scroll" }, box));
    box.scrollTop = box.scrollHeight;
  }
  const of = (kind) => REPORT.columns.filter((column) => column.kind === kind && valueOf(run, column.name) !== null).map((column) => column.name);
  page.append(element("h2", {}, "Results and config"));
  const [results, config] = [of("result"), of("config")];
  page.append(element("div", { class: "columns" }, listOf(run, facts.filter((name) => valueOf(run, name) !== null), "Facts"), results.length ? listOf(run, results, "Results") : null, config.length ? listOf(run, config, "Config") : null));
}

function rankText(run) {
  const ranked = RUNS.filter((each) => each.place !== null).sort((a, b) => b.place - a.place);
  return `rank ${ranked.indexOf(run) + 1} of ${ranked.length}`;
}

function findingOf(finding) {
  const sure = finding.confidence < 1 ? ` (${Math.round(100 * finding.confidence)}% sure)` : "";
  const text = element("div", {}, element("div", {}, finding.text + sure), finding.advice ? element("small", {}, finding.advice) : null);
  return element("li", {}, element("span", { class: finding.severity }, finding.severity), text);
}

function listOf(run, names, title) {
  const rows = element("tbody"), search = element("input", { type: "search", placeholder: "Find", "aria-label": `Find in ${title}` });
  const fill = () => rows.replaceChildren(...names.filter((name) => name.toLowerCase().includes(search.value.toLowerCase())).map((name) => element("tr", {}, element("th", { scope: "row" }, name), element("td", { title: String(valueOf(run, name)), "data-column": name }, plain(valueOf(run, name), name, 6)))));
  search.addEventListener("input", fill);
  fill();
  return element("div", { class: "card" }, element("div", { class: "bar" }, element("h3", {}, `${title} (${names.length})`), names.length > 15 ? search : null), element("div", { class: "tall" }, element("table", { class: "plain" }, rows)));
}

/** Returns big figures: title, figure, and a line below. */
function figuresOf(figures) {
  return element("dl", { class: "figures" }, ...figures.filter(Boolean).map(([title, figure, below]) => element("div", {}, element("dt", {}, title), element("dd", {}, figure), below ? element("dd", { title: below }, below) : null)));
}
