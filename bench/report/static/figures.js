// The legend, and a figure for each workload: the metric against a cost, a point an entry.
"use strict";
{
  const { byId, el, isAbsent, fixed, signed, plusMinus, clip, entryHref, cellHref } = prunebench.base;
  const { methods, entries, timedCosts } = prunebench.data;
  const { selection } = prunebench.filters;

  const COSTS = {
    macs_percent: "MACs, % of dense",
    params_percent: "parameters, % of dense",
    ...timedCosts,
    total_seconds: "dense + search + recovery, s",
    search_seconds: "search, s",
  };
  const METRICS = {
    final: "after recovery",
    pruned: "after pruning, before recovery",
    delta: "Δ to dense",
  };
  const SHAPES = {
    circle: d3.symbolCircle,
    square: d3.symbolSquare,
    triangle: d3.symbolTriangle,
    diamond: d3.symbolDiamond,
    wye: d3.symbolWye,
    cross: d3.symbolCross,
    star: d3.symbolStar,
    plus: d3.symbolPlus,
  };
  const MAX_PANELS = 12;
  /** Panels in the first row of a wide window. */
  const FIRST_PANELS = 3;
  /** Standard deviations at which an interval is cut: one of two seeds can be far wider than all differences. */
  const MAX_REACH = 3;

  /** The page's style sheet has a variable for each method's colour, light and dark. */
  const colourOf = (method) => `var(--method-${method.index})`;
  const entryColour = (entry) => colourOf(entry.method);

  /** The cost that an entry's budget is a fraction of. */
  const costOfBudget = (entry) => entry.budget_kind + "_percent";

  function buildControls() {
    for (const [value, text] of Object.entries(COSTS)) byId("x").append(el("option", { value }, text));
    // Where all budgets count parameters, those stand across at first.
    if (entries.every((entry) => entry.budget_kind === "params")) byId("x").value = costOfBudget(entries[0]);
    for (const [value, text] of Object.entries(METRICS)) byId("y").append(el("option", { value }, text));
    for (const id of ["x", "y", "intervals", "seeds"]) byId(id).addEventListener("change", drawPanels);
  }

  // ---- legend ----

  function svgElement(tag, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  /** A control's symbol is open, a method's is filled, as in the panels. */
  function symbolPicture(method) {
    const colour = colourOf(method);
    const style = method.control
      ? `fill:none;stroke:${colour};stroke-width:1.6`
      : `fill:${colour};stroke:${colour}`;
    const path = svgElement("path", { d: d3.symbol(SHAPES[method.symbol], 52)(), style });
    return svgElement("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14" }, path);
  }

  function drawLegend() {
    const drawn = selection.rows.filter(({ n, entry }) => n && !entry.ablation);
    const shown = new Set(drawn.map(({ entry }) => entry.method));
    const items = methods.filter((method) => shown.has(method)).map((method) => {
      const name = method.control ? el("i", {}, method.name) : method.name;
      return el("span", { title: method.name }, symbolPicture(method), name);
    });
    byId("legend").replaceChildren(...items);
  }

  // ---- panels ----

  /** What the reader chose to see. */
  function chosenAxes() {
    return {
      x: byId("x").value,
      y: byId("y").value,
      intervals: byId("intervals").checked,
      seeds: byId("seeds").checked,
      /** Whether a panel's title names its protocol. */
      protocols: new Set(entries.map((entry) => entry.protocol)).size > 1,
    };
  }

  /** Rows that have both figures, by workload and protocol. */
  function panelGroups({ x, y }) {
    const groups = new Map();
    for (const row of selection.rows) {
      if (row.entry.ablation || !row.n || row[x].mean === null || row[y].mean === null) continue;
      const key = row.entry.workload.index + "|" + row.entry.protocol;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(row);
    }
    return [...groups.values()];
  }

  /** Goes up with each drawing, so that one that is overtaken stops. */
  let turn = 0;

  function drawPanels() {
    const axes = chosenAxes();
    const groups = panelGroups(axes);
    const drawn = groups.slice(0, MAX_PANELS);
    const note = el("p", { class: "note" });
    if (groups.length > MAX_PANELS) note.append(`${groups.length - MAX_PANELS} more workloads: filter to see them.`);
    if (!groups.length) note.append("Nothing that passes the filter has these figures.");
    // The first row at once, the others after the page answers.
    byId("scatter").replaceChildren(...drawn.slice(0, FIRST_PANELS).map((group) => panel(group, axes)), note);
    const mine = ++turn;
    const drawFrom = (index) => {
      if (turn !== mine || index >= drawn.length) return;
      note.before(panel(drawn[index], axes));
      setTimeout(drawFrom, 0, index + 1);
    };
    setTimeout(drawFrom, 0, FIRST_PANELS);
  }

  /** A point for each row of a panel, from the smallest network to the largest. */
  function panelPoints(group, { x, y }) {
    const points = group.map((row) => {
      const { entry, [x]: cost, [y]: metric } = row;
      const interval = metric.interval ?? 0;
      return {
        row,
        x: cost.mean,
        y: metric.mean,
        low: metric.mean - interval,
        high: metric.mean + interval,
        reach: Math.min(interval, MAX_REACH * (metric.std ?? 0)),
        /** Points of one line are of one method, recovery and source. */
        line: [entry.method.index, entry.recovery, entry.searched_on].join("|"),
        href: entryHref(entry),
      };
    });
    return points.sort((a, b) => a.row.entry.budget - b.row.entry.budget);
  }

  /** The limits across: Plot's own, but for a single value, which it cannot take. */
  function costDomain(points) {
    const left = Math.min(...points.map((point) => point.x));
    const right = Math.max(...points.map((point) => point.x));
    if (right > left) return {};
    const margin = 0.02 * (Math.abs(left) || 1);
    return { domain: [left - margin, left + margin] };
  }

  /** Where the dense network stands; empty where it is not known. */
  function denseReference(workload, { y }) {
    const value = { final: workload.dense_mean, delta: 0 }[y] ?? null;
    return value === null ? [] : [value];
  }

  /** Limits that hold every point with its reach, and the lines. */
  function metricDomain(points, lines) {
    const low = Math.min(...points.map((point) => point.y - point.reach), ...lines);
    const high = Math.max(...points.map((point) => point.y + point.reach), ...lines);
    const margin = 0.06 * (high - low) || 0.5;
    return { domain: [low - margin, high + margin] };
  }

  function pointTip({ row }, { x, y }) {
    const { entry, n } = row;
    const metric = plusMinus(row[y], entry.workload.digits, y === "delta" ? signed : fixed);
    return [
      entry.label,
      `budget ${entry.budgetText}, n = ${n}`,
      `${METRICS[y]} ${metric}`,
      `${COSTS[x]} ${fixed(row[x].mean, 2)}`,
    ].join("\n");
  }

  function panelMarks(rows, points, { dense, whole }, axes) {
    const { x, y, intervals, seeds } = axes;
    const stroke = (point) => entryColour(point.row.entry);
    const fill = (point) => point.row.entry.method.control ? "var(--paper)" : stroke(point);
    const symbol = (point) => point.row.entry.method.index;
    const marks = [Plot.gridX({ strokeOpacity: 0.12 }), Plot.gridY({ strokeOpacity: 0.12 })];
    marks.push(
      Plot.ruleY(dense, { strokeDasharray: "2,3", strokeWidth: 1.2 }),
      Plot.ruleY(whole, { strokeDasharray: "7,3", strokeWidth: 1.2 }),
    );
    marks.push(Plot.line(points, { x: "x", y: "y", z: "line", stroke, strokeWidth: 1.3, strokeOpacity: 0.75 }));
    if (intervals) {
      const spread = points.filter((point) => point.row[y].interval !== null);
      marks.push(Plot.ruleX(spread, { x: "x", y1: "low", y2: "high", stroke, strokeWidth: 1, clip: true }));
    }
    if (seeds) {
      const cells = rows.flatMap((row) => row.cells)
        .filter((cell) => cell.status === "finished" && !isAbsent(cell[x]) && !isAbsent(cell[y]));
      const cellFill = (cell) => entryColour(cell.entry);
      marks.push(Plot.dot(cells, { x, y, r: 1.6, fill: cellFill, fillOpacity: 0.6, href: cellHref }));
    }
    const misses = points.filter((point) => point.row.misses);
    marks.push(
      Plot.dot(points, { x: "x", y: "y", r: 4.2, symbol, fill, stroke, href: "href" }),
      Plot.dot(misses, { x: "x", y: "y", r: 8, symbol: "times", stroke: "var(--bad)", strokeWidth: 1.6 }),
      Plot.tip(points, Plot.pointer({ x: "x", y: "y", fontSize: 12, title: (point) => pointTip(point, axes) })),
    );
    return marks;
  }

  // ---- a panel for one budget ----

  const DOT_ROW = 22;
  const MAX_NAME = 28;
  /** Of a network that is not pruned, which stands beside the dense one. */
  const isWhole = (row) => !row.entry.prunes;

  /** Whether all pruned networks of a panel have one budget, so that what it counts would draw no curve across. */
  function hasOneBudget(group, { x }) {
    const pruned = group.filter((row) => !isWhole(row));
    return pruned.length > 0 && x === costOfBudget(pruned[0].entry) && new Set(pruned.map((row) => row.entry.budget)).size === 1;
  }

  /** Methods down the side, the best mean first and controls below; the metric across. */
  function dotPanel(group, axes) {
    const { workload, protocol } = group[0].entry;
    const { y, intervals, seeds } = axes;
    const better = workload.higher_is_better ? -1 : 1;
    const rows = group.filter((row) => !isWhole(row)).sort((a, b) =>
      a.entry.method.control - b.entry.method.control || better * (a[y].mean - b[y].mean));
    const points = panelPoints(rows, axes).sort((a, b) => rows.indexOf(a.row) - rows.indexOf(b.row));
    const dense = denseReference(workload, axes);
    const whole = group.filter(isWhole).map((row) => row[y].mean);
    const { domain: [low, high] } = metricDomain(points, [...dense, ...whole]);
    const place = (point) => String(point.row.key);
    const inside = (value) => Math.min(high, Math.max(low, value));
    const stroke = (point) => entryColour(point.row.entry);
    const spread = intervals ? points.filter((point) => point.row[y].interval !== null) : [];
    const single = rows.flatMap((row) => row.cells.map((cell) => ({ cell, row })))
      .filter(({ cell }) => seeds && cell.status === "finished" && cell[y] !== null);
    const names = new Map(points.map((point) => [place(point), clip(point.row.entry.label, MAX_NAME)]));
    const controls = points.filter((point) => point.row.entry.method.control).map(place);
    const dot = { x: (point) => point.y, y: place };
    const unit = workload.unit ? ", " + workload.unit : "";
    const svg = Plot.plot({
      width: 392,
      height: 62 + DOT_ROW * points.length,
      marginLeft: Math.min(180, 14 + 6.2 * Math.max(...[...names.values()].map((name) => name.length))),
      marginRight: 14,
      marginBottom: 38,
      marginTop: 8,
      style: { fontSize: "11px", background: "transparent" },
      x: {
        label: `${workload.metric}${unit}`,
        labelAnchor: "center",
        labelArrow: "none",
        ticks: 5,
        domain: [low, high],
      },
      y: { domain: points.map(place), label: null, tickSize: 0, tickFormat: (key) => names.get(key), padding: 0 },
      symbol: {
        domain: points.map((point) => point.row.entry.method.index),
        range: points.map((point) => point.row.entry.method.symbol),
      },
      marks: [
        Plot.barX(controls, { y: (key) => key, x1: low, x2: high, fill: "currentColor", fillOpacity: 0.05 }),
        Plot.gridX({ strokeOpacity: 0.12 }),
        Plot.ruleX(dense, { strokeDasharray: "2,3", strokeWidth: 1.2 }),
        Plot.ruleX(whole, { strokeDasharray: "7,3", strokeWidth: 1.2 }),
        Plot.ruleY(spread, {
          y: place, x1: (point) => inside(point.low), x2: (point) => inside(point.high), stroke, strokeWidth: 1.2,
        }),
        Plot.dot(points, {
          ...dot,
          r: 4.4,
          symbol: (point) => point.row.entry.method.index,
          fill: (point) => point.row.entry.method.control ? "var(--paper)" : stroke(point),
          stroke,
          href: "href",
        }),
        Plot.dot(single, {
          x: ({ cell }) => cell[y],
          y: ({ row }) => String(row.key),
          r: 2,
          fill: ({ row }) => entryColour(row.entry),
          stroke: "var(--paper)",
          strokeWidth: 0.6,
          href: ({ cell }) => cellHref(cell),
        }),
        Plot.dot(points.filter((point) => point.row.misses), {
          ...dot, r: 8, symbol: "times", stroke: "var(--bad)", strokeWidth: 1.6,
        }),
        Plot.tip(points, Plot.pointer({ ...dot, fontSize: 12, title: (point) => pointTip(point, axes) })),
      ],
    });
    const title = `${workload.name}, ${rows[0].entry.budgetText}` + (axes.protocols ? " · " + protocol : "");
    return el("figure", { "data-workload": workload.name }, el("figcaption", { title }, title), svg);
  }

  // ---- a panel for several ----

  /** One workload's figure. */
  function panel(group, axes) {
    if (hasOneBudget(group, axes)) return dotPanel(group, axes);
    const { workload, protocol } = group[0].entry;
    // Across what budgets count, networks that are not pruned are lines: as points at 100 % they would take up half of
    // the panel.
    const isLine = (row) => axes.x === costOfBudget(row.entry) && isWhole(row) && group.some((other) => !isWhole(other));
    const rows = group.filter((row) => !isLine(row));
    const points = panelPoints(rows, axes);
    const dense = denseReference(workload, axes);
    const whole = group.filter(isLine).map((row) => row[axes.y].mean);
    const shown = [...new Set(points.map((point) => point.row.entry.method))];
    const unit = workload.unit ? ", " + workload.unit : "";
    const svg = Plot.plot({
      width: 392,
      height: 270,
      marginLeft: 52,
      marginRight: 14,
      marginBottom: 38,
      marginTop: 16,
      style: { fontSize: "11px", background: "transparent" },
      x: {
        label: COSTS[axes.x],
        labelAnchor: "center",
        labelArrow: "none",
        ticks: 5,
        nice: true,
        inset: 8,
        ...costDomain(points),
      },
      y: {
        label: `${workload.metric}${unit}${workload.higher_is_better ? " ↑" : " ↓"}`,
        labelArrow: "none",
        ticks: 6,
        ...metricDomain(points, [...dense, ...whole]),
      },
      symbol: { domain: shown.map((method) => method.index), range: shown.map((method) => method.symbol) },
      marks: panelMarks(rows, points, { dense, whole }, axes),
    });
    const title = workload.name + (axes.protocols ? " · " + protocol : "");
    return el("figure", { "data-workload": workload.name }, el("figcaption", { title }, title), svg);
  }

  prunebench.figures = { buildControls, drawLegend, drawPanels };
}
