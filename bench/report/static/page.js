// The page's own script: filters, figures, tables and the view of one cell. It writes text, never markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const DASH = "–";

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
    return node;
  }
  const fixed = (value, digits) => value === null || value === undefined ? DASH : value.toFixed(digits).replace("-", "−");
  const signed = (value, digits) => value === null || value === undefined ? DASH : (value > 0 ? "+" : "") + fixed(value, digits);

  // ---- data ------------------------------------------------------------------------------------------------------
  const STATUS = ["finished", "failed", "missing"];
  const FIELDS = ["id", "e", "seed", "status", "dense", "pruned", "final", "macs", "params", "latency", "speedup", "search", "total", "within", "error"];
  const cells = data.cells.map((row) => Object.fromEntries(FIELDS.map((name, i) => [name, row[i]])));
  const entries = data.entries.map((entry, index) => ({ ...entry, index, workload: data.workloads[entry.w], method: data.methods[entry.m] }));
  for (const entry of entries) {
    const differs = [];
    if (!entry.main && entry.r) differs.push(entry.r);
    if (entry.s) differs.push("from " + entry.s);
    entry.label = entry.method.name + (differs.length ? ` (${differs.join(", ")})` : "");
  }
  for (const cell of cells) {
    const entry = cell.entry = entries[cell.e];
    cell.delta = cell.final !== null && cell.dense !== null ? cell.final - cell.dense : null;
    (entry.cells ||= []).push(cell);
    cell.statusName = STATUS[cell.status];
    cell.workload = entry.workload.name; cell.task = entry.workload.task; cell.method = entry.label;
    cell.budget = entry.b; cell.protocol = entry.p; cell.recovery = entry.r;
  }
  const cellById = new Map(cells.map((cell) => [cell.id, cell]));

  let loaded = null;
  const details = () => loaded ||= JSON.parse($("details").textContent);

  function stats(values) {
    const found = values.filter((value) => value !== null && value !== undefined);
    const n = found.length;
    if (!n) return { n, mean: null, std: null, interval: null };
    const mean = found.reduce((a, b) => a + b, 0) / n;
    if (n < 2) return { n, mean, std: null, interval: null };
    const std = Math.sqrt(found.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1));
    const t = data.t[n - 1] ?? 1.96 + 2.5 / (n - 1);
    return { n, mean, std, interval: t * std / Math.sqrt(n) };
  }

  // ---- filters ---------------------------------------------------------------------------------------------------
  const DIMENSIONS = [
    ["task", (c) => c.task], ["workload", (c) => c.workload], ["method", (c) => c.entry.method.name],
    ["budget", (c) => String(c.budget)], ["seed", (c) => String(c.seed)], ["protocol", (c) => c.protocol],
  ];
  const chosen = Object.fromEntries(DIMENSIONS.map(([name]) => [name, new Set()]));
  const order = { budget: (a, b) => b - a, seed: (a, b) => a - b, method: (a, b) => methodPlace.get(a) - methodPlace.get(b) };
  const methodPlace = new Map(data.methods.map((method, index) => [method.name, index]));

  function buildFilters() {
    for (const [name, of] of DIMENSIONS) {
      const values = [...new Set(cells.map(of))].sort(order[name] || ((a, b) => a < b ? -1 : 1));
      if (values.length < 2) continue;
      const set = el("fieldset", { "data-dimension": name }, el("legend", {}, name));
      for (const value of values) {
        const box = el("input", { type: "checkbox", value, onchange: (event) => {
          event.target.checked ? chosen[name].add(value) : chosen[name].delete(value);
          update();
        } });
        set.append(el("label", { title: value }, box, value));
      }
      $("chips").append(set);
    }
    $("clear").addEventListener("click", () => {
      for (const set of Object.values(chosen)) set.clear();
      for (const box of $("chips").querySelectorAll("input")) box.checked = false;
      update();
    });
  }
  const passes = (cell) => DIMENSIONS.every(([name, of]) => !chosen[name].size || chosen[name].has(of(cell)));

  // ---- aggregation -----------------------------------------------------------------------------------------------
  const MEASURES = ["dense", "pruned", "final", "delta", "macs", "params", "latency", "speedup", "search", "total"];
  let visible = [], rows = [];

  function aggregate() {
    const groups = new Map();
    for (const cell of visible) {
      if (!groups.has(cell.e)) groups.set(cell.e, []);
      groups.get(cell.e).push(cell);
    }
    rows = [...groups].map(([index, group]) => {
      const entry = entries[index], done = group.filter((cell) => cell.status === 0);
      const row = { key: index, entry, group, n: done.length, failed: group.filter((c) => c.status === 1).length,
        missing: group.filter((c) => c.status === 2).length, whole: group.length === entry.cells.length,
        misses: done.filter((c) => c.within === 0).length };
      for (const name of MEASURES) row[name] = stats(done.map((cell) => cell[name]));
      return row;
    }).sort((a, b) => a.key - b.key);
  }

  // ---- comparison ------------------------------------------------------------------------------------------------
  const plusMinus = (s, digits, sign) => s.mean === null ? DASH : (sign ? signed : fixed)(s.mean, digits) + (s.std === null ? "" : " ± " + fixed(s.std, digits));
  const by = (pick) => (a, b, rowA, rowB) => {
    const x = pick(rowA.getData()), y = pick(rowB.getData());
    if (x === null || x === undefined) return y === null || y === undefined ? 0 : -1;
    if (y === null || y === undefined) return 1;
    return x < y ? -1 : x > y ? 1 : 0;
  };
  // Tabulator takes a string for markup: what a formatter returns is always a node.
  const show = (text) => (cell) => {
    const found = text(cell.getData(), cell.getElement());
    return found instanceof Node ? found : el("span", {}, found === null || found === undefined ? DASH : String(found));
  };
  const link = (href, text, italic) => el("a", { href }, italic ? el("i", {}, text) : text);
  const rankText = (row) => {
    const e = row.entry;
    if (!e.main) return DASH;
    if (row.misses && e.verdict === "off budget") return `△ off budget (${row.misses}/${row.n})`;
    if (e.rank === null || !row.whole) return DASH;
    return e.rank + ({ tied: " =", untested: " ?" }[e.verdict] || "");
  };
  const number = (title, field, text, pick, extra = {}) => ({ title, field, hozAlign: "right", headerHozAlign: "right",
    sorter: by(pick), formatter: show(text), headerSortStartingDir: "desc", ...extra });

  let comparison = null, cellTable = null;
  function buildTables() {
    const digits = (row) => row.entry.workload.digits ?? 2;
    const marked = (name, sign) => (row) => {
      const text = plusMinus(row[name], digits(row), sign);
      return row.entry.verdict === "best" && row.whole && row.entry.main ? el("b", {}, text) : text;
    };
    const plain = (title, field, pick, extra = {}) => ({ title, field, sorter: by(pick), formatter: show(pick), ...extra });
    comparison = new Tabulator("#comparison-table", {
      data: [], index: "key", maxHeight: "70vh", layout: "fitDataStretch", placeholder: "No cell passes the filter",
      columnDefaults: { resizable: "header", headerWordWrap: true },
      columns: [
        plain("Workload", "workload", (r) => r.entry.workload.name, { maxWidth: 190, visible: data.workloads.length > 1 }),
        number("Budget", "budget", (r) => String(r.entry.b), (r) => r.entry.b),
        { title: "Method", field: "method", sorter: by((r) => r.entry.m), maxWidth: 300,
          formatter: show((r) => link("#entry=" + r.key, r.entry.label, r.entry.method.control)) },
        number("n", "n", (r, node) => {
          if (!r.failed && !r.missing) return String(r.n);
          node.classList.add("alarm");
          return `${r.n}` + (r.failed ? `, ${r.failed} failed` : "") + (r.missing ? `, ${r.missing} missing` : "");
        }, (r) => r.n),
        number("Dense", "dense", (r) => plusMinus(r.dense, digits(r)), (r) => r.dense.mean),
        number("After pruning", "pruned", (r) => plusMinus(r.pruned, digits(r)), (r) => r.pruned.mean),
        number("After recovery", "final", marked("final"), (r) => r.final.mean),
        number("Δ", "delta", marked("delta", true), (r) => r.delta.mean),
        { title: "Rank", field: "rank", sorter: by((r) => r.entry.rank), formatter: show((r, node) => {
          node.classList.toggle("alarm", r.misses > 0);
          return rankText(r);
        }) },
        number("MACs ↓ %", "macs", (r) => fixed(r.macs.mean === null ? null : 100 - r.macs.mean, 1), (r) => r.macs.mean === null ? null : 100 - r.macs.mean, { width: 72 }),
        number("Params ↓ %", "params", (r) => fixed(r.params.mean, 1), (r) => r.params.mean, { width: 82 }),
        number("Speedup", "speedup", (r) => fixed(r.speedup.mean, 2), (r) => r.speedup.mean, { width: 86 }),
        number("Search s", "search", (r) => fixed(r.search.mean, 0), (r) => r.search.mean, { width: 74 }),
        number("Total s", "total", (r) => fixed(r.total.mean, 0), (r) => r.total.mean, { width: 70 }),
        plain("Recovery", "recovery", (r) => r.entry.r),
      ],
    });
    comparison.on("rowClick", (event, row) => { if (!event.target.closest("a")) location.hash = "entry=" + row.getData().key; });
    const field = (title, name, extra = {}) => ({ title, field: name, ...extra });
    const figure = (title, name, digitsOf) => number(title, name, (c) => fixed(c[name], digitsOf(c)), (c) => c[name]);
    const own = (c) => c.entry.workload.digits ?? 2;
    cellTable = new Tabulator("#cells-table", {
      data: [], index: "id", height: Math.min(560, 110 + 28 * cells.length) + "px", layout: "fitDataStretch",
      placeholder: "No cell passes the filter", columnDefaults: { resizable: "header", headerWordWrap: true },
      columns: [
        { title: "Cell", field: "id", formatter: show((c) => el("a", { href: "#cell=" + encodeURIComponent(c.id) }, el("code", {}, c.id))), headerFilter: "input", minWidth: 130 },
        { title: "Status", field: "statusName", formatter: show((c, node) => { node.classList.toggle("alarm", c.status > 0); return c.statusName; }) },
        field("Workload", "workload", { maxWidth: 220 }), field("Method", "method", { maxWidth: 260 }),
        field("Budget", "budget", { hozAlign: "right" }), field("Seed", "seed", { hozAlign: "right" }),
        figure("Dense", "dense", own), figure("After pruning", "pruned", own), figure("After recovery", "final", own),
        number("Δ", "delta", (c) => signed(c.delta, own(c)), (c) => c.delta),
        figure("MACs %", "macs", () => 2), figure("Latency ms", "latency", () => 2), figure("Total s", "total", () => 0),
        { title: "Error", field: "error", headerFilter: "input", minWidth: 160 },
      ],
    });
    cellTable.on("rowClick", (event, row) => { if (!event.target.closest("a")) location.hash = "cell=" + encodeURIComponent(row.getData().id); });
  }

  // ---- figures ---------------------------------------------------------------------------------------------------
  const AXES = {
    macs: "MACs, % of dense", params: "parameters removed, %", latency: "measured latency, ms", speedup: "measured speedup, ×",
    total: "dense + search + recovery, s", search: "search, s",
  };
  const UPS = { final: "after recovery", pruned: "after pruning, before recovery", delta: "Δ to dense" };
  const colour = (entry) => `var(--m${entry.m})`;
  const MAX_PLOTS = 12;
  let drawing = 0;

  function buildControls() {
    for (const [key, text] of Object.entries(AXES)) $("x").append(el("option", { value: key }, text));
    for (const [key, text] of Object.entries(UPS)) $("y").append(el("option", { value: key }, text));
    for (const id of ["x", "y", "intervals", "seeds"]) $(id).addEventListener("change", drawScatter);
    for (const id of ["widths-workload", "widths-budget"]) $(id).addEventListener("change", drawWidths);
  }

  function drawLegend() {
    const shown = new Set(rows.filter((row) => row.n).map((row) => row.entry.m));
    $("legend").replaceChildren(...data.methods.flatMap((method, index) => {
      if (!shown.has(index)) return [];
      const symbol = { circle: d3.symbolCircle, square: d3.symbolSquare, triangle: d3.symbolTriangle, diamond: d3.symbolDiamond, wye: d3.symbolWye, cross: d3.symbolCross, star: d3.symbolStar, plus: d3.symbolPlus }[method.symbol];
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("width", 14); svg.setAttribute("height", 14); svg.setAttribute("viewBox", "-7 -7 14 14");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", d3.symbol(symbol, 52)());
      path.setAttribute("style", method.control ? `fill:none;stroke:var(--m${index});stroke-width:1.6` : `fill:var(--m${index});stroke:var(--m${index})`);
      svg.append(path);
      return [el("span", { title: method.name }, svg, method.control ? el("i", {}, method.name) : method.name)];
    }));
  }

  function drawScatter() {
    const x = $("x").value, y = $("y").value, bars = $("intervals").checked, dots = $("seeds").checked;
    const panels = new Map();
    for (const row of rows) {
      if (!row.n || row[x].mean === null || row[y].mean === null) continue;
      const key = row.entry.w + "|" + row.entry.p;
      if (!panels.has(key)) panels.set(key, []);
      panels.get(key).push(row);
    }
    const protocols = new Set(entries.map((entry) => entry.p)).size > 1;
    const groups = [...panels.values()].slice(0, MAX_PLOTS), draw = (group) => panel(group, x, y, bars, dots, protocols);
    // The first row at once, the others after the page answers.
    $("scatter").replaceChildren(...groups.slice(0, 3).map(draw));
    const more = el("p", { class: "note" });
    $("scatter").append(more);
    const turn = ++drawing;
    const next = (index) => {
      if (turn !== drawing || index >= groups.length) return;
      more.before(draw(groups[index]));
      setTimeout(next, 0, index + 1);
    };
    setTimeout(next, 0, 3);
    if (panels.size > MAX_PLOTS) more.append(`${panels.size - MAX_PLOTS} more workloads: filter to see them.`);
    if (!panels.size) more.append("Nothing that passes the filter has these figures.");
  }

  function panel(group, x, y, bars, dots, protocols) {
    const workload = group[0].entry.workload, digits = workload.digits ?? 2;
    const present = [...new Set(group.map((row) => row.entry.m))].sort((a, b) => a - b);
    // Networks of one budget have nearly the same MACs: set apart, their intervals can be told.
    const shift = (row) => x === "macs" ? 0.55 * (present.indexOf(row.entry.m) - (present.length - 1) / 2) : 0;
    const points = group.map((row) => ({ row, x: row[x].mean + shift(row), y: row[y].mean, low: row[y].mean - (row[y].interval ?? 0), high: row[y].mean + (row[y].interval ?? 0),
      reach: Math.min(row[y].interval ?? 0, 3 * (row[y].std ?? 0)), line: row.entry.m + "|" + row.entry.r + "|" + row.entry.s, href: "#entry=" + row.key }))
      .sort((a, b) => a.row.entry.b - b.row.entry.b);
    const reference = y === "final" ? workload.dense : y === "delta" ? 0 : null;
    const low = Math.min(...points.map((p) => p.y - p.reach), reference ?? Infinity), high = Math.max(...points.map((p) => p.y + p.reach), reference ?? -Infinity);
    const margin = 0.06 * (high - low) || 0.5;
    const left = Math.min(...points.map((p) => p.x)), right = Math.max(...points.map((p) => p.x));
    const range = right > left ? {} : { domain: [left - 0.02 * (Math.abs(left) || 1), left + 0.02 * (Math.abs(left) || 1)] };
    const sample = [...new Set(points.map((p) => p.row.entry.m))];
    const open = (p) => p.row.entry.method.control;
    const marks = [
      Plot.gridX({ strokeOpacity: 0.12 }), Plot.gridY({ strokeOpacity: 0.12 }),
      reference === null || reference === undefined ? null : Plot.ruleY([reference], { strokeDasharray: "2,3", strokeWidth: 1.2 }),
      Plot.line(points, { x: "x", y: "y", z: "line", stroke: (p) => colour(p.row.entry), strokeWidth: 1.3, strokeOpacity: 0.75 }),
      bars ? Plot.ruleX(points.filter((p) => p.row[y].interval !== null), { x: "x", y1: "low", y2: "high", stroke: (p) => colour(p.row.entry), strokeWidth: 1, clip: true }) : null,
      dots ? Plot.dot(group.flatMap((row) => row.group.filter((c) => c.status === 0 && c[x] !== null && c[y] !== null)), { x, y, r: 1.6, fill: (c) => colour(c.entry), fillOpacity: 0.6, href: (c) => "#cell=" + encodeURIComponent(c.id) }) : null,
      Plot.dot(points, { x: "x", y: "y", r: 4.2, symbol: (p) => p.row.entry.m, fill: (p) => open(p) ? "var(--paper)" : colour(p.row.entry), stroke: (p) => colour(p.row.entry), href: "href" }),
      Plot.dot(points.filter((p) => p.row.misses), { x: "x", y: "y", r: 8, symbol: "times", stroke: "var(--bad)", strokeWidth: 1.6 }),
      Plot.tip(points, Plot.pointer({ x: "x", y: "y", fontSize: 12, title: (p) => [p.row.entry.label, `budget ${p.row.entry.b}, n = ${p.row.n}`, `${UPS[y]} ${plusMinus(p.row[y], digits, y === "delta")}`, `${AXES[x]} ${fixed(p.row[x].mean, 2)}`].join("\n") })),
    ];
    const svg = Plot.plot({
      width: 392, height: 270, marginLeft: 52, marginRight: 14, marginBottom: 38, marginTop: 16, style: { fontSize: "11px", background: "transparent" },
      x: { label: AXES[x], labelAnchor: "center", labelArrow: "none", ticks: 5, nice: true, inset: 8, ...range },
      y: { label: `${workload.metric}${workload.unit ? ", " + workload.unit : ""}${workload.higher ? " ↑" : " ↓"}`, labelArrow: "none", domain: [low - margin, high + margin], ticks: 6 },
      symbol: { domain: sample, range: sample.map((m) => data.methods[m].symbol) },
      marks: marks.filter((mark) => mark !== null),
    });
    const title = workload.name + (protocols ? " · " + group[0].entry.p : "");
    return el("figure", { "data-workload": workload.name }, el("figcaption", { title }, title), svg);
  }

  function fill(select, values) {
    const kept = select.value;
    select.replaceChildren(...values.map((value) => el("option", { value }, value)));
    if (values.includes(kept)) select.value = kept;
  }

  let widthsReady = false;
  function drawWidths() {
    if (!widthsReady) return;
    const usable = rows.filter((row) => row.n && (row.entry.main || row.entry.s) && row.group.some((c) => details().cells[c.id]?.gw));
    $("widths").hidden = !usable.length;
    if (!usable.length) return;
    fill($("widths-workload"), [...new Set(usable.map((row) => row.entry.workload.name))]);
    const here = usable.filter((row) => row.entry.workload.name === $("widths-workload").value);
    fill($("widths-budget"), [...new Set(here.map((row) => String(row.entry.b)))].sort((a, b) => a - b));
    const shown = here.filter((row) => String(row.entry.b) === $("widths-budget").value).sort((a, b) => a.entry.m - b.entry.m || Boolean(a.entry.s) - Boolean(b.entry.s));
    const tiles = [], names = [];
    for (const row of shown) {
      const total = new Map();
      for (const cell of row.group) {
        const item = details().cells[cell.id];
        if (!item?.gw) continue;
        details().groups[item.g].forEach(([name, size], index) => {
          if (!total.has(name)) { total.set(name, []); if (!names.includes(name)) names.push(name); }
          total.get(name).push(item.gw[index] / size);
        });
      }
      for (const [name, shares] of total) tiles.push({ method: row.entry.label, layer: name, share: 100 * d3.mean(shares), href: "#entry=" + row.key });
    }
    const methods = shown.map((row) => row.entry.label);
    const left = Math.min(200, 16 + 7 * Math.max(...methods.map((name) => name.length)));
    const width = Math.max(520, Math.min(1240, left + 20 + 44 * names.length));
    const clip = (text, limit) => text.length > limit ? text.slice(0, limit - 1) + "…" : text;
    const bottom = Math.min(150, 20 + 5.6 * Math.min(24, Math.max(...names.map((name) => name.length))));
    $("widths-plot").replaceChildren(el("figure", {}, Plot.plot({
      width, height: 24 * methods.length + bottom + 16, marginLeft: left, marginBottom: bottom, marginTop: 6, padding: 0.04, style: { fontSize: "11px", background: "transparent" },
      x: { domain: names, label: null, tickRotate: -60, tickSize: 0, tickFormat: (name) => clip(name, 24) }, y: { domain: methods, label: null, tickSize: 0, tickFormat: (name) => clip(name, 28) },
      color: { type: "linear", scheme: "cividis", domain: [0, 100] },
      marks: [
        Plot.cell(tiles, { x: "layer", y: "method", fill: "share", href: "href", title: (t) => `${t.method}\n${t.layer}: ${t.share.toFixed(1)} % kept` }),
        names.length <= 32 ? Plot.text(tiles, { x: "layer", y: "method", text: (t) => t.share.toFixed(0), fill: (t) => t.share < 60 ? "white" : "black", fontSize: 10, pointerEvents: "none" }) : null,
      ].filter((mark) => mark !== null),
    })));
  }

  // ---- one entry, one cell ---------------------------------------------------------------------------------------
  const table = (head, body) => el("div", { class: "wide" }, el("table", {},
    el("thead", {}, el("tr", {}, head.map((text, i) => el("th", { class: i ? "num" : null, scope: "col" }, text)))),
    el("tbody", {}, body.map((row) => el("tr", {}, row.map((value, i) => el("td", { class: i ? "num" : null }, value)))))));
  const facts = (pairs) => el("table", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value))));
  const big = (value) => value ? value.toLocaleString("en-US") : DASH;

  function entryView(entry) {
    const digits = entry.workload.digits ?? 2;
    const verdict = { best: "better than every rival of its budget", tied: "ties with the best of its budget, or is the best and ties with others", worse: "worse than the best of its budget", untested: "cannot be told from the others: too few common seeds", only: "the only one at its budget", "off budget": "off its budget, not ranked", reference: "a reference, not ranked", "no result": "no result" }[entry.verdict];
    return [
      el("h2", {}, `${entry.label} on ${entry.workload.name}`),
      facts([["Budget", String(entry.b)], ["Protocol", entry.p], ["Recovery", entry.r], ["Rank", entry.main && entry.rank !== null ? String(entry.rank) : null], ["Verdict", verdict], ["p against the best", entry.pBest === null ? null : String(entry.pBest)]]),
      table(["Cell", "Seed", "Status", "Dense", "After pruning", "After recovery", "Δ", "MACs %", "Latency ms", "Total s"],
        entry.cells.map((c) => [el("a", { href: "#cell=" + encodeURIComponent(c.id) }, el("code", {}, c.id)), String(c.seed), c.statusName, fixed(c.dense, digits), fixed(c.pruned, digits), fixed(c.final, digits), signed(c.delta, digits), fixed(c.macs, 2), fixed(c.latency, 2), fixed(c.total, 0)])),
    ];
  }

  function cellView(cell) {
    const more = details(), item = more.cells[cell.id] ?? {}, [notes, whole, blocks] = item.n !== undefined ? more.texts[item.n] : [[], {}, []];
    const environment = item.e !== undefined ? more.environments[item.e] : {};
    const parts = [
      el("h2", {}, `${cell.method} on ${cell.workload}, budget ${cell.budget}, seed ${cell.seed}`),
      facts([
        ["Cell", el("code", {}, cell.id)], ["Status", cell.status ? el("span", { class: "alarm" }, cell.statusName) : cell.statusName],
        ["MLflow run", item.run ? (data.runs ? el("a", { href: data.runs + encodeURIComponent(item.run), rel: "noopener noreferrer" }, item.run) : el("code", {}, item.run)) : null],
        ["Git commit", environment.git_commit ?? environment.commit ?? null],
        ["Started, finished", item.at ? item.at.filter(Boolean).join(" … ") : null],
        ["All seeds", el("a", { href: "#entry=" + cell.e }, cell.entry.label + " at " + cell.budget)],
      ]),
    ];
    if (item.err) parts.push(el("h3", {}, "Error"), el("p", { class: "alarm" }, item.err));
    if (item.tb) parts.push(el("pre", {}, item.tb));
    if (item.v) {
      const keys = more.metrics[item.k], main = cell.entry.workload.metric;
      parts.push(el("h3", {}, "Test split"), table(["Metric", "Dense", "After pruning", "After recovery", "Δ"], keys.map((key, i) => {
        const [dense, pruned, final] = item.v.map((column) => column[i]);
        return [key === main ? el("b", {}, key) : key, ...[dense, pruned, final].map((v) => fixed(v, 4)), final !== null && dense !== null ? signed(final - dense, 4) : DASH];
      })));
    }
    if (item.a) {
      const [asked, tolerance, native, fitted, measured, note] = item.a, [md, mp, pd, pp] = item.x;
      parts.push(el("h3", {}, "Budget"), facts([
        ["Asked for", `${asked} ± ${tolerance} of the dense MACs`], ["Method's own", fixed(native, 4)], ["Channels changed by the fit", String(fitted)],
        ["Measured", el("span", { class: cell.within === 0 ? "alarm" : "" }, `${fixed(measured, 4)}${cell.within === 0 ? ", off budget" : ", within tolerance"}`)], ["Note", note],
        ["MACs", `${big(md)} → ${big(mp)}`], ["Parameters", `${big(pd)} → ${big(pp)}`],
      ]));
    }
    if (item.l) {
      const [de, se, re, ds, ss, rs, device] = item.l;
      parts.push(el("h3", {}, "Cost"), table(["", "Dense (shared)", "Search", "Recovery", "Total"], [["epochs", ...[de, se, re, de + se + re].map(String)], [`seconds on ${device}`, ...[ds, ss, rs, ds + ss + rs].map((s) => fixed(s, 1))]]));
    }
    if (item.t) {
      const line = (f) => `${fixed(f.median_ms, 3)} ms (IQR ${fixed(f.iqr_ms, 3)}), batch ${f.batch_size}, ${f.threads} threads, ${f.device}`;
      parts.push(facts([["Latency, dense", line(more.texts[item.t[0]])], ["Latency, pruned", line(more.texts[item.t[1]])]]));
    }
    if (item.gw) parts.push(el("h3", {}, "Widths"), widthPlot(more.groups[item.g], item.gw, item.gn));
    if (blocks.length) parts.push(facts([["Blocks removed", blocks.join(", ")]]));
    if (Object.keys(whole).length) parts.push(el("h3", {}, "Left whole"), facts(Object.entries(whole)));
    if (item.tr) parts.push(el("h3", {}, "Curves"), el("div", { class: "plots" }, curvePlots(item.tr)));
    const pictures = data.thumbnails[cell.id];
    if (pictures) parts.push(el("h3", {}, "Pictures"), el("div", { class: "thumbs" }, pictures.map(([name, uri]) => el("figure", {}, el("img", { src: uri, alt: name }), el("figcaption", {}, name)))));
    if (notes.length) parts.push(el("h3", {}, "Notes"), el("ul", {}, notes.map((note) => el("li", {}, note))));
    const configuration = { ...(item.c !== undefined ? more.configs[item.c] : {}), seed: cell.seed, workload: item.w !== undefined ? more.configs[item.w] : {} };
    parts.push(el("details", {}, el("summary", {}, "Configuration"), el("pre", {}, JSON.stringify(configuration, null, 2))));
    if (Object.keys(environment).length) parts.push(el("details", {}, el("summary", {}, "Environment"), facts(Object.entries(environment))));
    return parts;
  }

  function widthPlot(groups, widths, native) {
    const rows = groups.map(([name, size], i) => ({ name, size, width: widths[i], native: native ? native[i] : widths[i] }));
    const left = Math.min(220, 20 + 6.4 * Math.max(...rows.map((row) => row.name.length)));
    return Plot.plot({
      width: 640, height: 26 + 16 * rows.length + 30, marginLeft: left, marginRight: 30, style: { fontSize: "11px", background: "transparent" },
      x: { label: "channels (bar: kept; outline: dense; tick: the method's own)", labelAnchor: "center", labelArrow: "none" },
      y: { domain: rows.map((row) => row.name), label: null, tickSize: 0, tickFormat: (name) => name.length > 32 ? name.slice(0, 31) + "…" : name },
      marks: [Plot.barX(rows, { x: "size", y: "name", fill: "none", stroke: "currentColor", strokeOpacity: 0.35, insetTop: 1, insetBottom: 1 }), Plot.barX(rows, { x: "width", y: "name", fill: `var(--accent)`, fillOpacity: 0.75, insetTop: 2, insetBottom: 2 }), Plot.tickX(rows.filter((row) => row.native !== row.width), { x: "native", y: "name", stroke: "var(--bad)", strokeWidth: 2 }), Plot.text(rows, { x: "size", y: "name", text: (row) => `${row.width}`, textAnchor: "start", dx: 4 })],
    });
  }

  function curvePlots(tr) {
    return Object.entries(tr.y).slice(0, 12).flatMap(([name, values]) => {
      const points = values.map((value, i) => ({ value, epoch: tr.epoch[i], phase: tr.phase[i] })).filter((p) => p.value !== null && p.epoch !== null);
      if (points.length < 2) return [];
      const phases = [...new Set(points.map((p) => p.phase))];
      return [el("figure", {}, el("figcaption", {}, name), Plot.plot({
        width: 280, height: 150, marginLeft: 44, marginBottom: 30, style: { fontSize: "10px", background: "transparent" },
        x: { label: "epoch", ticks: 3, labelArrow: "none" }, y: { label: null, grid: true, ticks: 4, nice: true }, fx: { domain: phases, label: null },
        marks: [Plot.lineY(points, { x: "epoch", y: "value", fx: "phase", stroke: "var(--accent)" })],
      }))];
    });
  }

  function route() {
    const [kind, value] = decodeURIComponent(location.hash.slice(1)).split(/=(.*)/s);
    const target = kind === "cell" ? cellById.get(value) : kind === "entry" ? entries[Number(value)] : null;
    if (!target) { if ($("dialog").open) $("dialog").close(); return; }
    $("detail").replaceChildren(...(kind === "cell" ? cellView(target) : entryView(target)));
    if (!$("dialog").open) $("dialog").showModal();
    $("dialog").scrollTop = 0;
  }

  // ---- together --------------------------------------------------------------------------------------------------
  function filterStatic() {
    const keep = new Set(rows.map((row) => String(row.key)));
    for (const row of document.querySelectorAll(".static tr[data-entry]")) row.hidden = !keep.has(row.dataset.entry);
    for (const section of document.querySelectorAll(".static details.section")) {
      const all = section.querySelectorAll("tr[data-entry]");
      section.hidden = all.length > 0 && ![...all].some((row) => !row.hidden);
    }
  }

  function update(first = false) {
    visible = cells.filter(passes);
    aggregate();
    const filtered = visible.length < cells.length;
    $("shown").textContent = `${visible.length.toLocaleString("en-US")} of ${cells.length.toLocaleString("en-US")} cells shown`;
    $("clear").hidden = !filtered;
    $("marks").textContent = rows.some((row) => !row.whole) ? "Ranks and marks hold for all seeds; they are hidden for a part of them." : "";
    drawLegend(); drawScatter();
    comparison.setData(rows.filter((row) => row.entry.main || row.entry.s || row.entry.r));
    cellTable.setData(visible);
    if (!first || filtered) filterStatic();
    drawWidths();
    document.documentElement.dataset.shown = String(visible.length);
  }

  function theme() {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  }

  buildFilters(); buildControls(); buildTables();
  $("theme").addEventListener("click", theme);
  $("dialog").addEventListener("close", () => { if (/^#(cell|entry)=/.test(location.hash)) history.replaceState(null, "", "#"); });
  $("dialog").addEventListener("click", (event) => { if (event.target === $("dialog")) $("dialog").close(); });
  document.addEventListener("click", (event) => {
    const row = event.target.closest(".static tr[data-entry]");
    if (row && !event.target.closest("a")) location.hash = "entry=" + row.dataset.entry;
  });
  window.addEventListener("hashchange", route);
  window.addEventListener("beforeprint", () => { for (const section of document.querySelectorAll("details.section")) section.open = true; });
  let waiting = 2;
  const begin = () => {
    if (--waiting) return;
    update(true);
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
    // Widths need every cell's details: after the first picture.
    setTimeout(() => { widthsReady = true; drawWidths(); route(); }, 30);
  };
  comparison.on("tableBuilt", begin); cellTable.on("tableBuilt", begin);
})();
