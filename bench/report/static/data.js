// The report's methods, workloads, entries and cells; the details of one cell.
//
// Names with_underscores are fields as bench/report/page_data.py and page_details.py name them. All others are added
// here.
"use strict";
{
  const { byId, named } = prunebench.base;

  const data = JSON.parse(byId("data").textContent);
  const namedRows = ({ fields, rows }) => rows.map((row) => named(fields, row));

  const methods = namedRows(data.methods);
  const workloads = namedRows(data.workloads);
  const entries = namedRows(data.entries);
  const cells = namedRows(data.cells);

  for (const list of [methods, workloads, entries]) list.forEach((item, index) => { item.index = index; });

  for (const entry of entries) {
    entry.workload = workloads[entry.workload_index];
    entry.method = methods[entry.method_index];
    entry.cells = [];
    const differs = [];
    if (!entry.main && !entry.ablation && entry.recovery) differs.push(entry.recovery);
    if (entry.searched_on) differs.push("from " + entry.searched_on);
    const name = entry.method.name + (entry.ablation ? " " + entry.ablation : "");
    /** `0.5 of the MACs` */
    entry.budgetText = `${entry.budget} of the ${data.units[entry.budget_kind]}`;
    entry.label = name + (differs.length ? ` (${differs.join(", ")})` : "");
  }

  for (const cell of cells) {
    cell.entry = entries[cell.entry_index];
    cell.entry.cells.push(cell);
    cell.delta = cell.final !== null && cell.dense !== null ? cell.final - cell.dense : null;
    // Columns of the table of cells are fields of the cell itself.
    cell.workload = cell.entry.workload.name;
    cell.method = cell.entry.label;
    cell.budget = cell.entry.budget;
    for (const [place, [latency, speedup]] of (cell.further ?? []).entries()) {
      cell["latency_ms_" + place] = latency;
      cell["speedup_" + place] = speedup;
    }
  }

  /** Costs that were measured, by name, with the batch size and the threads that they were measured at. */
  const timedCosts = data.timed.length < 2
    ? { latency_ms: "measured latency, ms", speedup: "measured speedup, ×" }
    : Object.fromEntries(data.timed.flatMap((at, place) => [
      ["latency_ms_" + place, "measured latency, ms"],
      ["speedup_" + place, "measured speedup, ×"],
    ].map(([name, text]) => [name, `${text} (${at})`])));
  if (data.timed.length === 1) for (const name of Object.keys(timedCosts)) timedCosts[name] += ` (${data.timed[0]})`;
  const latencyTitle = "Latency ms" + (data.timed_first ? ` (${data.timed_first})` : "");

  const cellById = new Map(cells.map((cell) => [cell.id, cell]));

  /** Mean, standard deviation and half the 95 % interval over seeds; null where there are too few. */
  function summarise(values) {
    const found = values.filter((value) => value !== null);
    const n = found.length;
    if (!n) return { n, mean: null, std: null, interval: null };
    const mean = found.reduce((sum, value) => sum + value, 0) / n;
    if (n < 2) return { n, mean, std: null, interval: null };
    const std = Math.sqrt(found.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1));
    const quantile = data.t_quantiles[n - 2] ?? 1.96 + 2.5 / (n - 1);
    return { n, mean, std, interval: quantile * std / Math.sqrt(n) };
  }

  // Details are far larger than the rest: they are read when the first of them is asked for.
  let details = null;
  const detailsById = new Map();

  /** What the view of a cell shows beside its row: see `DetailsRow`. */
  function detailsOf(cell) {
    if (!detailsById.has(cell.id)) {
      details ||= JSON.parse(byId("details").textContent);
      const found = named(details.fields, details.rows[cell.id]);
      for (const [part, fields] of Object.entries(details.parts)) {
        if (found[part] !== null) found[part] = named(fields, found[part]);
      }
      for (const [list, fields] of Object.entries(details.lists)) {
        if (found[list] !== null) found[list] = found[list].map((row) => named(fields, row));
      }
      for (const [field, values] of Object.entries(details.shared)) {
        if (found[field] !== null) found[field] = values[found[field]];
      }
      detailsById.set(cell.id, found);
    }
    return detailsById.get(cell.id);
  }

  prunebench.data = {
    methods, workloads, entries, cells, cellById, detailsOf, summarise,
    runs: data.runs, thumbnails: data.thumbnails, units: data.units,
    timedCosts, latencyTitle,
  };
}
