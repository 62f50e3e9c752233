// The two tables that can be sorted, of entries and of cells, and the fixed tables, whose rows follow the filters.
"use strict";
{
  const { DASH, byId, isAbsent, el, fixed, signed, plusMinus, entryHref, cellHref } = prunebench.base;
  const { workloads, cells, latencyTitle } = prunebench.data;
  const { selection } = prunebench.filters;

  const ROW_HEIGHT = 28;
  const HEAD_HEIGHT = 110;
  const MAX_CELLS_HEIGHT = 560;
  const OPTIONS = {
    data: [],
    layout: "fitDataStretch",
    placeholder: "No cell passes the filter",
    columnDefaults: { resizable: "header", headerWordWrap: true },
  };

  let comparison = null;
  let cellTable = null;

  /** A column's sorter by what `pick` takes from a row; rows without it come first. */
  const by = (pick) => (a, b, rowA, rowB) => {
    const x = pick(rowA.getData());
    const y = pick(rowB.getData());
    if (isAbsent(x) || isAbsent(y)) return isAbsent(y) - isAbsent(x);
    return x < y ? -1 : x > y ? 1 : 0;
  };

  /** A column's formatter. Tabulator takes a string for markup, so what it is given is always a node. */
  const show = (contentOf) => (tabulatorCell) => {
    const content = contentOf(tabulatorCell.getData(), tabulatorCell.getElement());
    return content instanceof Node ? content : el("span", {}, isAbsent(content) ? DASH : String(content));
  };

  const textColumn = (title, field, pick, extra = {}) => ({
    title, field, sorter: by(pick), formatter: show(pick), ...extra,
  });

  /** A column of figures: `contentOf` a row is shown and `pick` of it is sorted by. */
  const numberColumn = (title, field, contentOf, pick, extra = {}) => ({
    title,
    field,
    hozAlign: "right",
    headerHozAlign: "right",
    sorter: by(pick),
    formatter: show(contentOf),
    headerSortStartingDir: "desc",
    ...extra,
  });

  // ---- entries ----

  function rankText(row) {
    const { main, verdict, rank } = row.entry;
    if (!main) return DASH;
    if (row.misses && verdict === "off budget") return `△ off budget (${row.misses}/${row.n})`;
    if (verdict === "collapsed") return "△ learned nothing";
    if (rank === null || !row.whole) return DASH;
    return rank + ({ tied: " =", untested: " ?" }[verdict] || "");
  }

  function rankContent(row, node) {
    node.classList.toggle("alarm", row.misses > 0 || row.entry.verdict === "collapsed");
    return rankText(row);
  }

  function seedsContent(row, node) {
    if (!row.failed && !row.missing) return String(row.n);
    node.classList.add("alarm");
    const failed = row.failed ? `, ${row.failed} failed` : "";
    const missing = row.missing ? `, ${row.missing} missing` : "";
    return `${row.n}${failed}${missing}`;
  }

  function methodContent(row) {
    const { label, method } = row.entry;
    return el("a", { href: entryHref(row.entry) }, method.control ? el("i", {}, label) : label);
  }

  const sampleContent = (name, number) => (row) => plusMinus(row[name], row.entry.workload.digits, number);

  /** As `sampleContent`, bold where the entry is better than all its rivals. */
  const markedContent = (name, number) => (row) => {
    const text = sampleContent(name, number)(row);
    return row.entry.verdict === "best" && row.whole && row.entry.main ? el("b", {}, text) : text;
  };

  const drop = (name) => (row) => row[name].mean === null ? null : 100 - row[name].mean;

  function comparisonColumns() {
    const sample = (title, name, contentOf) => numberColumn(title, name, contentOf, (row) => row[name].mean);
    const mean = (title, name, digits, width) =>
      numberColumn(title, name, (row) => fixed(row[name].mean, digits), (row) => row[name].mean, { width });
    const dropped = (title, name, width) =>
      numberColumn(title, name, (row) => fixed(drop(name)(row), 1), drop(name), { width });
    return [
      textColumn("Workload", "workload", (row) => row.entry.workload.name, {
        maxWidth: 190,
        visible: workloads.length > 1,
      }),
      numberColumn("Budget", "budget", (row) => String(row.entry.budget), (row) => row.entry.budget),
      {
        title: "Method",
        field: "method",
        sorter: by((row) => row.entry.method.index),
        maxWidth: 300,
        formatter: show(methodContent),
      },
      numberColumn("n", "n", seedsContent, (row) => row.n),
      sample("Dense", "dense", sampleContent("dense")),
      sample("After pruning", "pruned", sampleContent("pruned")),
      sample("After recovery", "final", markedContent("final")),
      sample("Δ", "delta", markedContent("delta", signed)),
      { title: "Rank", field: "rank", sorter: by((row) => row.entry.rank), formatter: show(rankContent) },
      dropped("MACs ↓ %", "macs_percent", 72),
      dropped("Params ↓ %", "params_percent", 82),
      mean("Speedup", "speedup", 2, 86),
      mean("Search s", "search_seconds", 0, 74),
      mean("Total s", "total_seconds", 0, 70),
      textColumn("Recovery", "recovery", (row) => row.entry.recovery),
    ];
  }

  // ---- cells ----

  function cellColumns() {
    const digits = (cell) => cell.entry.workload.digits;
    const figure = (title, name, digitsOf, number = fixed) =>
      numberColumn(title, name, (cell) => number(cell[name], digitsOf(cell)), (cell) => cell[name]);
    return [
      {
        title: "Cell",
        field: "id",
        formatter: show((cell) => el("a", { href: cellHref(cell) }, el("code", {}, cell.id))),
        headerFilter: "input",
        minWidth: 130,
      },
      {
        title: "Status",
        field: "status",
        formatter: show((cell, node) => {
          node.classList.toggle("alarm", cell.status !== "finished");
          return cell.status;
        }),
      },
      { title: "Workload", field: "workload", maxWidth: 220 },
      { title: "Method", field: "method", maxWidth: 260 },
      { title: "Budget", field: "budget", hozAlign: "right" },
      { title: "Seed", field: "seed", hozAlign: "right" },
      figure("Dense", "dense", digits),
      figure("After pruning", "pruned", digits),
      figure("After recovery", "final", digits),
      figure("Δ", "delta", digits, signed),
      figure("MACs %", "macs_percent", () => 2),
      figure("Params %", "params_percent", () => 2),
      figure(latencyTitle, "latency_ms", () => 2),
      figure("Total s", "total_seconds", () => 0),
      { title: "Error", field: "error", headerFilter: "input", minWidth: 160 },
    ];
  }

  // ---- together ----

  /** A click on a row leads where its link leads. */
  function followRows(table, hrefOf) {
    table.on("rowClick", (event, row) => {
      if (!event.target.closest("a")) location.hash = hrefOf(row.getData());
    });
  }

  /** Build both tables, empty; `onBuilt` is called when they can be filled. */
  function buildTables(onBuilt) {
    comparison = new Tabulator("#comparison-table", {
      ...OPTIONS,
      index: "key",
      maxHeight: "70vh",
      columns: comparisonColumns(),
    });
    cellTable = new Tabulator("#cells-table", {
      ...OPTIONS,
      index: "id",
      height: Math.min(MAX_CELLS_HEIGHT, HEAD_HEIGHT + ROW_HEIGHT * cells.length) + "px",
      columns: cellColumns(),
    });
    followRows(comparison, (row) => entryHref(row.entry));
    followRows(cellTable, cellHref);
    let waiting = 2;
    const built = () => { if (--waiting === 0) onBuilt(); };
    comparison.on("tableBuilt", built);
    cellTable.on("tableBuilt", built);
  }

  /** Give both tables the rows that are shown; the promise is kept once they have drawn them. */
  function fillTables() {
    const compared = selection.rows.filter(({ entry }) => !entry.ablation);
    return Promise.all([comparison.setData(compared), cellTable.setData(selection.cells)]);
  }

  /** Hide the rows of fixed tables whose entry is not shown, and sections that are left without one. */
  function filterFixedTables() {
    const shown = new Set(selection.rows.map((row) => String(row.key)));
    for (const row of document.querySelectorAll(".static tr[data-entry]")) row.hidden = !shown.has(row.dataset.entry);
    for (const section of document.querySelectorAll(".static details.section")) {
      const rows = [...section.querySelectorAll("tr[data-entry]")];
      section.hidden = rows.length > 0 && rows.every((row) => row.hidden);
    }
  }

  prunebench.tables = { buildTables, fillTables, filterFixedTables };
}
