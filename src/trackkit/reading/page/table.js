// The table of runs: sorted by a heading, filtered by words and comparisons, with the columns asked for.

const PAGE = 100, MOST_COLUMNS = 11;
const table = { sort: REPORT.result, descending: false, columns: firstColumns(), filter: "", most: PAGE };
table.descending = Boolean(REPORT.result) && !REPORT.lessIsBetter;

function firstColumns() {
  const differs = (name) => columnNamed.has(name) && "values" in columnNamed.get(name);
  const others = REPORT.columns.filter((column) => column.kind === "result" && column.name.startsWith("final/best/") && !column.name.endsWith("_step") && column.name !== REPORT.result);
  const wanted = ["name", "status", REPORT.result, ...others.slice(0, 1).map((column) => column.name), ...REPORT.varied.slice(0, 4), "steps", "duration_h", "cost", "tags", "commit"];
  return wanted.filter((name, at) => name && columnNamed.has(name) && wanted.indexOf(name) === at && (at < 3 || differs(name))).slice(0, MOST_COLUMNS);
}

/** Returns whether a run passes the filter: every word in one of its columns shown, every comparison true. */
function passes(run, words) {
  return words.every((word) => {
    const [, name, sign, wanted] = /^(.+?)(<=|>=|!=|==?|<|>)(.*)$/.exec(word) || [];
    if (!name) {
      const looked = ["name", "id", "status", "tags", "group", ...table.columns];
      return looked.some((column) => plain(valueOf(run, column), column).toLowerCase().includes(word.toLowerCase()));
    }
    const column = columnFor(name);
    if (!column) return false;
    const value = valueOf(run, column), number = Number(wanted);
    const isNumber = typeof value === "number" && wanted !== "" && !Number.isNaN(number);
    if (sign.startsWith("=")) return isNumber ? value === number : plain(value, column).toLowerCase() === wanted.toLowerCase();
    if (sign === "!=") return isNumber ? value !== number : plain(value, column).toLowerCase() !== wanted.toLowerCase();
    if (!isNumber) return false;
    return sign === "<" ? value < number : sign === "<=" ? value <= number : sign === ">" ? value > number : value >= number;
  });
}

function columnFor(name) {
  if (columnNamed.has(name)) return name;
  const ends = [...table.columns, ...columnNamed.keys()].filter((each) => each.endsWith(`/${name}`) || short(each) === name);
  return ends[0];
}

function applyFilter() {
  const words = table.filter.match(/\S+/g) || [];
  state.shown = RUNS.filter((run) => passes(run, words));
}

function sorted(runs) {
  const key = (run) => valueOf(run, table.sort);
  const isKnown = (value) => value !== null && value !== undefined && value !== "NaN";
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : typeof a === "number" ? -1 : typeof b === "number" ? 1 : String(a).localeCompare(String(b), undefined, { numeric: true }));
  const known = runs.filter((run) => isKnown(key(run))).sort((a, b) => (table.descending ? -1 : 1) * order(key(a), key(b)));
  return table.sort ? [...known, ...runs.filter((run) => !isKnown(key(run)))] : runs;
}

function isNumeric(name) {
  const column = columnNamed.get(name), values = "values" in column ? column.values : [column.same];
  return values.every((value) => value === null || typeof value === "number") && values.some((value) => value !== null);
}

function drawTable() {
  const runs = sorted(state.shown);
  const head = element("tr", {}, element("th", { class: "pick" }, element("small", { title: "Compare the configs of the runs ticked" }, "≠")));
  for (const name of table.columns) {
    const sorting = table.sort === name ? (table.descending ? "descending" : "ascending") : null;
    const press = () => {
      table.descending = table.sort === name ? !table.descending : false;
      table.sort = name;
      drawTable();
      document.querySelector(`#runs th[aria-sort] button`)?.focus();
    };
    const title = columnNamed.get(name).about || name;
    head.append(element("th", { "aria-sort": sorting, class: isNumeric(name) ? "number" : "" }, element("button", { type: "button", title, onclick: press }, short(name))));
  }
  const best = new Map(table.columns.filter((name) => name === REPORT.result || name.startsWith("final/best/")).map((name) => [name, bestOf(name)]));
  const body = element("tbody");
  for (const run of runs.slice(0, table.most)) body.append(rowOf(run, best));
  const made = element("table", {}, element("thead", {}, head), body);
  document.querySelector("#runs .scroll").replaceChildren(made);
  document.querySelector("#runs .count").textContent = state.shown.length === RUNS.length ? `${RUNS.length} runs` : `${state.shown.length} of ${RUNS.length} runs`;
  const more = document.querySelector("#runs .more");
  more.hidden = runs.length <= table.most;
  more.textContent = `Show ${Math.min(PAGE, runs.length - table.most)} more of ${runs.length}`;
}

function bestOf(name) {
  if (name !== REPORT.result) return null;
  const values = state.shown.map((run) => valueOf(run, name)).filter((value) => typeof value === "number");
  return values.length > 1 ? (REPORT.lessIsBetter ? Math.min(...values) : Math.max(...values)) : null;
}

function rowOf(run, best) {
  const tick = element("input", { type: "checkbox", checked: picked.has(run), "aria-label": `Compare ${nameOf(run)}`, onchange: (event) => pick(run, event.target.checked) });
  const row = element("tr", { "data-run": String(run.number) }, element("td", {}, tick));
  for (const name of table.columns) {
    const value = valueOf(run, name), text = plain(value, name), isNumber = isNumeric(name);
    const cell = element("td", { class: isNumber ? "number" : "text", "data-column": name, title: value === null ? "" : String(value) });
    if (name === "name") {
      const dot = element("span", { class: "dot" });
      dot.style.background = colorAt(run.place);
      cell.append(dot, element("a", { href: `#run/${run.number}` }, text === "–" ? nameOf(run) : text));
    } else cell.append(text);
    if (name === "status") cell.classList.add(`status-${/^\w+$/.test(text) ? text : "unknown"}`);
    if (best.get(name) !== null && best.get(name) === value) cell.classList.add("best");
    row.append(cell);
  }
  row.addEventListener("pointerenter", () => hover(state.group_by ? groupsOf(state.shown).find((group) => group.members.includes(run))?.number ?? null : run.number));
  row.addEventListener("pointerleave", () => hover(null));
  return row;
}

/** Returns a menu of boxes to tick, with a field that narrows it. */
function menu(title, names, isTicked, change, side = "") {
  const list = element("ul"), search = element("input", { type: "search", placeholder: "Find", "aria-label": `Find in ${title}` });
  const fill = () => {
    const found = names.filter((name) => name.toLowerCase().includes(search.value.toLowerCase())).slice(0, 300);
    list.replaceChildren(...found.map((name) => element("li", {}, element("label", {}, element("input", { type: "checkbox", checked: isTicked(name), onchange: (event) => change(name, event.target.checked) }), name))));
  };
  search.addEventListener("input", fill);
  const made = element("details", { class: `menu ${side}`, ontoggle: () => made.open && fill() }, element("summary", {}, title), element("div", {}, search, list));
  document.addEventListener("click", (event) => { if (made.open && !made.contains(event.target)) made.open = false; });
  return made;
}

function buildTable() {
  const search = element("input", { type: "search", id: "filter", placeholder: "Filter: adamw  lr<0.01  status=finished", "aria-label": "Filter runs by words and comparisons" });
  let later;
  search.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(() => { table.filter = search.value; table.most = PAGE; applyFilter(); drawTable(); drawLegend(); redraw(); }, 120);
  });
  const change = (name, isOn) => {
    table.columns = isOn ? [...table.columns, name] : table.columns.filter((each) => each !== name);
    drawTable();
  };
  const columns = menu("Columns", REPORT.columns.map((column) => column.name), (name) => table.columns.includes(name), change, "right");
  const more = element("button", { type: "button", class: "more", onclick: () => { table.most += PAGE; drawTable(); } });
  document.getElementById("runs").append(element("div", { class: "bar" }, search, element("span", { class: "count muted" }), columns), element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of runs" }), more);
}
