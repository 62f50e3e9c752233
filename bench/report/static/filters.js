// Which cells are shown, and the means of their entries.
"use strict";
{
  const { byId, el } = prunebench.base;
  const { methods, entries, cells, summarise, timedCosts } = prunebench.data;

  const methodIndex = new Map(methods.map((method) => [method.name, method.index]));
  const alphabetically = (a, b) => a < b ? -1 : 1;
  const DIMENSIONS = [
    { name: "task", valueOf: (cell) => cell.entry.workload.task, order: alphabetically },
    { name: "workload", valueOf: (cell) => cell.workload, order: alphabetically },
    {
      name: "method",
      valueOf: (cell) => cell.entry.method.name,
      order: (a, b) => methodIndex.get(a) - methodIndex.get(b),
    },
    { name: "budget", valueOf: (cell) => String(cell.budget), order: (a, b) => b - a },
    { name: "seed", valueOf: (cell) => String(cell.seed), order: (a, b) => a - b },
    { name: "protocol", valueOf: (cell) => cell.entry.protocol, order: alphabetically },
  ];
  /** Values that are chosen in each dimension; where none is, all pass. */
  const chosen = new Map(DIMENSIONS.map(({ name }) => [name, new Set()]));

  const FIGURES = [
    "dense", "pruned", "final", "delta", "macs_percent", "params_percent", "latency_ms", "speedup", "search_seconds",
    "total_seconds", ...Object.keys(timedCosts),
  ];

  /** The cells that pass the filters, and a row for each of their entries. `select` alone changes it. */
  const selection = { cells: [], rows: [] };

  /** Boxes for every dimension with more than one value; `onChange` is called after each change. */
  function buildFilters(onChange) {
    for (const { name, valueOf, order } of DIMENSIONS) {
      const values = [...new Set(cells.map(valueOf))].sort(order);
      if (values.length < 2) continue;
      const set = el("fieldset", { "data-dimension": name }, el("legend", {}, name));
      for (const value of values) {
        const onchange = (event) => {
          if (event.target.checked) chosen.get(name).add(value);
          else chosen.get(name).delete(value);
          onChange();
        };
        set.append(el("label", { title: value }, el("input", { type: "checkbox", value, onchange }), value));
      }
      byId("chips").append(set);
    }
    byId("clear").addEventListener("click", () => {
      for (const values of chosen.values()) values.clear();
      for (const box of byId("chips").querySelectorAll("input")) box.checked = false;
      onChange();
    });
  }

  function passes(cell) {
    return DIMENSIONS.every(({ name, valueOf }) => !chosen.get(name).size || chosen.get(name).has(valueOf(cell)));
  }

  function summaryRow(entry, shown) {
    const finished = shown.filter((cell) => cell.status === "finished");
    const row = {
      key: entry.index,
      entry,
      cells: shown,
      n: finished.length,
      failed: shown.filter((cell) => cell.status === "failed").length,
      missing: shown.filter((cell) => cell.status === "missing").length,
      /** Whether all cells of the entry are shown: ranks hold for these only. */
      whole: shown.length === entry.cells.length,
      misses: finished.filter((cell) => cell.within_budget === false).length,
    };
    for (const name of FIGURES) row[name] = summarise(finished.map((cell) => cell[name] ?? null));
    return row;
  }

  /** Fill the selection with what passes the filters. */
  function select() {
    selection.cells = cells.filter(passes);
    const byEntry = new Map();
    for (const cell of selection.cells) {
      if (!byEntry.has(cell.entry)) byEntry.set(cell.entry, []);
      byEntry.get(cell.entry).push(cell);
    }
    selection.rows = [...byEntry].map(([entry, shown]) => summaryRow(entry, shown)).sort((a, b) => a.key - b.key);
  }

  prunebench.filters = { selection, buildFilters, select };
}
