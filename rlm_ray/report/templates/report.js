"use strict";
// Rows and turns wait as JSON in the page, and are drawn when they are opened. All of it is text: nothing is ever parsed as HTML.
const PAGE = 100;

function made(name, text, kind) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function data(id) {
  const element = document.getElementById("data-" + id);
  return element ? JSON.parse(element.textContent) : null;
}

function shown(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// A cell of CSV. A spreadsheet would compute a text that begins so, and the texts are a corpus's.
function csvCell(value) {
  let text = shown(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function csv(columns, rows) {
  return [columns, ...rows].map((cells) => cells.map(csvCell).join(",")).join("\r\n");
}

function download(name, text) {
  const link = made("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  link.download = name + ".csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Texts go into cells as text nodes: the table component would take strings for HTML.
function drawRows(place, found, name) {
  const tools = made("p", null, "tools");
  const label = made("label", "Search ");
  const search = made("input");
  search.type = "search";
  label.append(search);
  const save = made("button", "Download CSV");
  save.type = "button";
  const count = made("span", null, "none");
  count.setAttribute("role", "status");
  tools.append(label, save, count);
  const body = made("div");
  const whole = made("dl", null, "facts whole");
  whole.hidden = true;
  whole.setAttribute("aria-live", "polite");
  place.append(tools, body, whole);
  const names = found.columns.map((column, index) => "c" + index);
  const marked = new Set(found.marked);
  const rows = found.rows.map((row, number) => {
    const line = { _number: number, _fails: marked.has(number) };
    for (let index = 0; index < names.length; index += 1) line[names[index]] = row[index];
    return line;
  });
  const numbers = names.map((field) => rows.some((row) => typeof row[field] === "number"));
  const table = new Tabulator(body, {
    data: rows,
    index: "_number",
    layout: "fitDataFill",
    height: rows.length > 12 ? 460 : undefined,
    renderVertical: rows.length > 12 ? "virtual" : "basic",
    placeholder: () => made("p", "No row has this."),
    columnDefaults: { headerFilter: "input", headerFilterFunc: (wanted, value) => shown(value).toLowerCase().includes(wanted.toLowerCase()),
      minWidth: 90, maxInitialWidth: 360, headerSortTristate: true, resizable: true },
    columns: found.columns.map((column, index) => ({
      field: names[index],
      title: column,
      sorter: numbers[index] ? "number" : (one, other) => shown(one).localeCompare(shown(other)),
      titleFormatter: () => document.createTextNode(column),
      formatter: (cell) => {
        const row = cell.getRow().getData(), value = shown(cell.getValue());
        const kind = column === "status" ? "status-" + value.replace(/[^a-z]/g, "") : row._fails ? "fails" : "";
        return made("span", value.length > 400 ? value.slice(0, 400) + " …" : value, kind);
      },
    })),
  });
  function lines() { return table.getRows("active").map((row) => found.rows[row.getData()._number]); }
  function told() {
    const some = table.getDataCount("active");
    count.textContent = some === rows.length ? some.toLocaleString() + " rows" : some.toLocaleString() + " of " + rows.length.toLocaleString() + " rows";
  }
  function open(row) {
    const line = found.rows[row.getData()._number];
    whole.replaceChildren();
    for (const column of found.columns) {
      const pair = made("div");
      pair.append(made("dt", column), made("dd", shown(line[whole.childElementCount])));
      whole.append(pair);
    }
    whole.hidden = false;
  }
  table.on("tableBuilt", () => {
    for (const [number, element] of body.querySelectorAll(".tabulator-header-filter input").entries()) {
      element.setAttribute("aria-label", "show rows whose " + found.columns[number] + " has");
    }
    // the roles of a grid as readers of screens expect them: the part that scrolls is the group of the rows
    body.removeAttribute("aria-owns");
    body.querySelector(".tabulator-tableholder").setAttribute("role", "rowgroup");
    body.querySelector(".tabulator-table").setAttribute("role", "presentation");
    told();
  });
  table.on("dataFiltered", () => setTimeout(told));
  table.on("rowClick", (event, row) => open(row));
  body.addEventListener("keydown", (event) => {
    const row = event.key === "Enter" && event.target.closest(".tabulator-row");
    const found_ = row && table.getRows("active").find((item) => item.getElement() === row);
    if (found_) open(found_);
  });
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    if (wanted) table.setFilter((row) => names.some((field) => shown(row[field]).toLowerCase().includes(wanted)));
    else table.clearFilter();
  });
  save.addEventListener("click", () => download(name, csv(found.columns, lines())));
  return table;
}

function drawResult(details) {
  drawRows(details, data("result-" + details.dataset.result), "result-" + details.dataset.result);
}

function drawSource(details) {
  const source = data("sources")[Number(details.dataset.source)];
  if (source.problem) details.append(made("p", source.problem, "problem"));
  else {
    const text = made("pre");
    text.tabIndex = 0;
    if (source.before) text.append(made("span", source.before + "\n", "near"));
    const at = source.quote ? source.record.indexOf(source.quote) : -1;
    if (at < 0) text.append(made("b", source.record));
    else {
      const record = made("b", source.record.slice(0, at));
      record.append(made("mark", source.quote), source.record.slice(at + source.quote.length));
      text.append(record);
    }
    if (source.behind) text.append(made("span", "\n" + source.behind, "near"));
    details.append(text);
    if (source.quote && at < 0) details.append(made("p", "quote: " + source.quote));
  }
  details.append(made("code", source.address));
}

function drawPrompt(details) {
  const all = data("messages"), some = all.prompts[Number(details.dataset.prompt)];
  if (!some) details.append(made("p", "It is not in this report; the run directory has it.", "none"));
  for (const index of some || []) {
    const message = all.messages[index], text = made("pre", message.content);
    text.tabIndex = 0;
    details.append(made("p", message.role, "none"), text);
  }
}

function drawCall(details) {
  const call = data("call-" + details.dataset.call);
  if (call.question) details.append(made("p", call.question));
  if (!call.turns) details.append(made("p", "Its turns are not in this report; the run directory has them.", "none"));
  for (const turn of call.turns || []) {
    details.append(made("h3", "Turn " + turn.turn));
    const reply = made("details", null, "reply");
    reply.append(made("summary", "The model's reply"), made("pre", turn.reply));
    details.append(reply);
    for (const cell of turn.cells) {
      if (cell.code) details.append(made("pre", cell.code, "code"));
      for (const item of cell.asked || []) details.append(made("p", item.verb + ": " + item.prompt.slice(0, 300), "asked"));
      if (cell.output) details.append(made("pre", cell.output, "output"));
      if (cell.error) details.append(made("pre", cell.error, "error"));
      if (cell.problem) details.append(made("p", cell.problem, "problem"));
    }
  }
  if (call.outcome) details.append(made("h3", "It returned"), made("pre", call.outcome.value));
}

document.addEventListener("toggle", (event) => {
  const details = event.target;
  if (!details.open || details.dataset.drawn) return;
  if (details.dataset.result !== undefined) drawResult(details);
  else if (details.dataset.call !== undefined) drawCall(details);
  else if (details.dataset.source !== undefined) drawSource(details);
  else if (details.dataset.prompt !== undefined) drawPrompt(details);
  else return;
  details.dataset.drawn = "yes";
}, true);

function openTarget() {
  const target = location.hash.startsWith("#result-") ? document.getElementById(location.hash.slice(1)) : null;
  if (target) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();

const below = document.getElementById("below");
if (below) {
  const calls = Array.from(below.children);
  const more = document.getElementById("more-calls");
  const filter = document.getElementById("filter");
  let most = PAGE;
  function draw() {
    const wanted = filter.value.toLowerCase();
    let found = 0;
    for (const call of calls) {
      const fits = !wanted || call.firstElementChild.textContent.toLowerCase().includes(wanted);
      if (fits) found += 1;
      call.hidden = !fits || found > most;
    }
    more.hidden = found <= most;
    more.textContent = "Show more (" + Math.min(most, found).toLocaleString() + " of " + found.toLocaleString() + ")";
  }
  more.addEventListener("click", () => { most += PAGE; draw(); });
  filter.addEventListener("input", () => { most = PAGE; draw(); });
  draw();
}

for (const place of document.querySelectorAll("[data-rows]")) {
  const found = data("rows-" + place.dataset.rows);
  if (found && found.rows.length) drawRows(place, found, place.dataset.name);
  else place.append(made("p", "There is none.", "none"));
}
