// The widths of channel groups: of entries side by side, and of one cell.
"use strict";
{
  const { byId, el, clip, entryHref } = prunebench.base;
  const { detailsOf } = prunebench.data;
  const { selection } = prunebench.filters;

  const STYLE = { fontSize: "11px", background: "transparent" };
  /** Names that an axis shows in full. */
  const MAX_GROUP_NAME = 24;
  const MAX_METHOD_NAME = 28;
  const MAX_CELL_GROUP_NAME = 32;
  /** More groups leave a tile no room for its figure. */
  const MAX_GROUPS_WITH_TEXT = 32;
  const longest = (names) => Math.max(...names.map((name) => name.length));

  function buildWidthControls() {
    for (const id of ["widths-workload", "widths-budget"]) byId(id).addEventListener("change", drawWidths);
  }

  /** Give a list these choices and keep the one that is chosen, where it is among them. */
  function fillSelect(select, values) {
    const kept = select.value;
    select.replaceChildren(...values.map((value) => el("option", { value }, value)));
    if (values.includes(kept)) select.value = kept;
  }

  /** Rows with widths of their own: of the main comparison, of a blind search, or of one on another workload. */
  function usableRows() {
    return selection.rows.filter(({ n, entry, cells }) =>
      n && (entry.main || entry.searched_on || entry.ablation === "blind") && cells.some((cell) => detailsOf(cell).widths !== null));
  }

  /** Offer what there is to choose, and give the rows of the workload and the budget that are chosen. */
  function chosenRows(rows) {
    fillSelect(byId("widths-workload"), [...new Set(rows.map((row) => row.entry.workload.name))]);
    const workload = byId("widths-workload").value;
    const here = rows.filter((row) => row.entry.workload.name === workload);
    const budgets = [...new Set(here.map((row) => String(row.entry.budget)))].sort((a, b) => a - b);
    fillSelect(byId("widths-budget"), budgets);
    const budget = byId("widths-budget").value;
    return here
      .filter((row) => String(row.entry.budget) === budget)
      .sort(({ entry: a }, { entry: b }) =>
        a.method.index - b.method.index || Boolean(a.searched_on) - Boolean(b.searched_on));
  }

  /** A tile for each group of a row: the share of its channels that is kept, mean over the seeds shown. */
  function tilesOf(row) {
    const shares = new Map();
    for (const cell of row.cells) {
      const { groups, widths } = detailsOf(cell);
      if (widths === null) continue;
      groups.forEach(({ name, size }, place) => {
        if (!shares.has(name)) shares.set(name, []);
        shares.get(name).push(widths[place] / size);
      });
    }
    return [...shares].map(([group, kept]) => ({
      method: row.entry.label,
      group,
      share: 100 * d3.mean(kept),
      href: entryHref(row.entry),
    }));
  }

  function drawWidths() {
    const usable = usableRows();
    byId("widths").hidden = !usable.length;
    if (!usable.length) return;
    const rows = chosenRows(usable);
    const tiles = rows.flatMap(tilesOf);
    const methods = rows.map((row) => row.entry.label);
    const groups = [...new Set(tiles.map((tile) => tile.group))];
    const left = Math.min(200, 16 + 7 * longest(methods));
    const bottom = Math.min(150, 20 + 5.6 * Math.min(MAX_GROUP_NAME, longest(groups)));
    const marks = [Plot.cell(tiles, {
      x: "group",
      y: "method",
      fill: "share",
      href: "href",
      title: (tile) => `${tile.method}\n${tile.group}: ${tile.share.toFixed(1)} % kept`,
    })];
    if (groups.length <= MAX_GROUPS_WITH_TEXT) {
      marks.push(Plot.text(tiles, {
        x: "group",
        y: "method",
        text: (tile) => tile.share.toFixed(0),
        fill: (tile) => tile.share < 60 ? "white" : "black",
        fontSize: 10,
        pointerEvents: "none",
      }));
    }
    byId("widths-plot").replaceChildren(el("figure", {}, Plot.plot({
      width: Math.max(520, Math.min(1240, left + 20 + 44 * groups.length)),
      height: 24 * methods.length + bottom + 16,
      marginLeft: left,
      marginBottom: bottom,
      marginTop: 6,
      padding: 0.04,
      style: STYLE,
      x: {
        domain: groups,
        label: null,
        tickRotate: -60,
        tickSize: 0,
        tickFormat: (name) => clip(name, MAX_GROUP_NAME),
      },
      y: { domain: methods, label: null, tickSize: 0, tickFormat: (name) => clip(name, MAX_METHOD_NAME) },
      color: { type: "linear", scheme: "cividis", domain: [0, 100] },
      marks,
    })));
  }

  /** One cell's groups: what is kept, of how many, and what the method itself chose before the budget fit. */
  function cellWidths({ groups, widths, native_widths }) {
    const rows = groups.map(({ name, size }, place) => ({
      name,
      size,
      width: widths[place],
      native: (native_widths ?? widths)[place],
    }));
    const names = rows.map((row) => row.name);
    const fitted = rows.filter((row) => row.native !== row.width);
    const dense = { fill: "none", stroke: "currentColor", strokeOpacity: 0.35, insetTop: 1, insetBottom: 1 };
    const kept = { fill: "var(--accent)", fillOpacity: 0.75, insetTop: 2, insetBottom: 2 };
    return Plot.plot({
      width: 640,
      height: 26 + 16 * rows.length + 30,
      marginLeft: Math.min(220, 20 + 6.4 * longest(names)),
      marginRight: 30,
      style: STYLE,
      x: {
        label: "channels (bar: kept; outline: dense; tick: the method's own)",
        labelAnchor: "center",
        labelArrow: "none",
      },
      y: { domain: names, label: null, tickSize: 0, tickFormat: (name) => clip(name, MAX_CELL_GROUP_NAME) },
      marks: [
        Plot.barX(rows, { x: "size", y: "name", ...dense }),
        Plot.barX(rows, { x: "width", y: "name", ...kept }),
        Plot.tickX(fitted, { x: "native", y: "name", stroke: "var(--bad)", strokeWidth: 2 }),
        Plot.text(rows, { x: "size", y: "name", text: (row) => `${row.width}`, textAnchor: "start", dx: 4 }),
      ],
    });
  }

  prunebench.widths = { buildWidthControls, drawWidths, cellWidths };
}
