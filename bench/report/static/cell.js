// The view of one entry and the view of one cell. A view is a list of nodes for the page's dialog.
"use strict";
{
  const { DASH, isAbsent, el, fixed, signed, lookUp, entryHref, cellHref } = prunebench.base;
  const { detailsOf, runs, thumbnails, units, latencyTitle } = prunebench.data;
  const { cellWidths } = prunebench.widths;

  const MAX_CURVES = 12;
  const VERDICTS = {
    best: "better than every rival of its budget",
    tied: "ties with the best of its budget, or is the best and ties with others",
    worse: "worse than the best of its budget",
    untested: "cannot be told from the others: too few common seeds",
    only: "the only one at its budget",
    "off budget": "off its budget, not ranked",
    collapsed: "a network is no better than the majority class, or diverged: not ranked",
    reference: "a reference, not ranked",
    "no result": "no result",
  };

  const heading = (text) => el("h3", {}, text);
  const cellLink = (cell) => el("a", { href: cellHref(cell) }, el("code", {}, cell.id));
  const grouped = (value) => value ? value.toLocaleString("en-US") : DASH;

  /** A table whose first column is text and whose others are figures. */
  function table(titles, rows) {
    const kind = (place) => ({ class: place ? "num" : null });
    const head = titles.map((title, place) => el("th", { ...kind(place), scope: "col" }, title));
    const body = rows.map((row) => el("tr", {}, row.map((value, place) => el("td", kind(place), value))));
    return el("div", { class: "wide" },
      el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
  }

  /** Names and values, without those that are not known. */
  function facts(pairs) {
    const known = pairs.filter(([, value]) => !isAbsent(value) && value !== "");
    return el("table", { class: "facts" },
      known.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value))));
  }

  /** The ends of an interval of a difference; null where there is none. */
  const interval = (ends, digits, remark = "") =>
    ends && ends.map((end) => signed(end, digits)).join(" to ") + remark;

  // ---- one entry ----

  function entryView(entry) {
    const { workload } = entry;
    const digits = workload.digits;
    const cellRow = (cell) => [
      cellLink(cell),
      String(cell.seed),
      cell.status,
      fixed(cell.dense, digits),
      fixed(cell.pruned, digits),
      fixed(cell.final, digits),
      signed(cell.delta, digits),
      fixed(cell.macs_percent, 2),
      fixed(cell.latency_ms, 2),
      fixed(cell.total_seconds, 0),
    ];
    return [
      el("h2", {}, `${entry.label} on ${workload.name}`),
      facts([
        ["Budget", entry.budgetText],
        ["Protocol", entry.protocol],
        ["Recovery", entry.recovery],
        ["Settings other than the defaults", entry.settings || null],
        ["Rank", entry.main && entry.rank !== null ? String(entry.rank) : null],
        ["Verdict", VERDICTS[entry.verdict]],
        ["p against the best", entry.p_best === null ? null : String(entry.p_best)],
        ["Minus its best rival", entry.rival ? `${entry.rival}: ${signed(entry.difference, digits)}` : null],
        ["95 % interval over seeds", interval(entry.over_seeds, digits)],
        ["95 % interval over test samples", interval(entry.over_samples, digits, ", for these networks alone")],
      ]),
      table(
        [
          "Cell", "Seed", "Status", "Dense", "After pruning", "After recovery", "Δ", "MACs %", latencyTitle, "Total s",
        ],
        entry.cells.map(cellRow),
      ),
    ];
  }

  // ---- one cell ----

  /** The parts of a cell's view in their order; each is a list of nodes, empty where nothing was recorded. */
  function cellView(cell) {
    const details = detailsOf(cell);
    return [
      summary(cell, details),
      failure(details),
      metricsTable(cell, details),
      budgetFacts(cell, details),
      costTable(details),
      latencyFacts(details),
      widthsFigure(details),
      leftAlone(details),
      curvesFigures(details),
      samplePictures(cell),
      notesList(details),
      configurationText(cell, details),
      environmentFacts(details),
    ].flat();
  }

  function summary(cell, { run_id, environment, started_at, finished_at }) {
    const run = !run_id ? null
      : runs ? el("a", { href: runs + encodeURIComponent(run_id), rel: "noopener noreferrer" }, run_id)
      : el("code", {}, run_id);
    const commit = environment && (lookUp(environment, "git_commit") ?? lookUp(environment, "commit"));
    return [
      el("h2", {}, `${cell.method} on ${cell.workload}, budget ${cell.budget}, seed ${cell.seed}`),
      facts([
        ["Cell", el("code", {}, cell.id)],
        ["Status", cell.status === "finished" ? cell.status : el("span", { class: "alarm" }, cell.status)],
        ["MLflow run", run],
        ["Git commit", commit],
        ["Started, finished", [started_at, finished_at].filter(Boolean).join(" … ")],
        ["All seeds", el("a", { href: entryHref(cell.entry) }, cell.entry.label + " at " + cell.budget)],
      ]),
    ];
  }

  function failure({ error, traceback }) {
    return [
      ...(error ? [heading("Error"), el("p", { class: "alarm" }, error)] : []),
      ...(traceback ? [el("pre", {}, traceback)] : []),
    ];
  }

  function metricsTable(cell, { metric_names, metrics }) {
    if (!metrics) return [];
    const rows = metric_names.map((name, place) => {
      const [dense, pruned, final] = [metrics.dense, metrics.pruned, metrics.final].map((column) => column[place]);
      return [
        name === cell.entry.workload.metric ? el("b", {}, name) : name,
        fixed(dense, 4),
        fixed(pruned, 4),
        fixed(final, 4),
        final !== null && dense !== null ? signed(final - dense, 4) : DASH,
      ];
    });
    return [heading("Test split"), table(["Metric", "Dense", "After pruning", "After recovery", "Δ"], rows)];
  }

  function budgetFacts(cell, { budget, size }) {
    if (!budget) return [];
    const missed = cell.within_budget === false;
    const { kind, search_macs_ratio } = budget;
    const unit = units[kind];
    const kept = { macs: budget.macs_ratio, params: budget.params_ratio };
    const native = { macs: budget.native_macs_ratio, params: budget.native_params_ratio };
    const measured = fixed(kept[kind], 4) + (missed ? ", off budget" : ", within tolerance");
    return [heading("Budget"), facts([
      ["Asked for", `${budget.requested} ± ${budget.tolerance} of the dense ${unit}`],
      ["Asked of the method", kind === "macs" ? null : `${fixed(search_macs_ratio, 4)} of the dense MACs`],
      ["Method's own", fixed(native[kind], 4)],
      ["Channels changed by the fit", String(budget.fitted_channels)],
      ["Measured", el("span", { class: missed ? "alarm" : "" }, measured)],
      ["Note", budget.note],
      ["MACs", `${grouped(size.macs_dense)} → ${grouped(size.macs_pruned)}`],
      ["Parameters", `${grouped(size.params_dense)} → ${grouped(size.params_pruned)}`],
    ])];
  }

  /** What each phase took; the dense network is shared by all methods. */
  function costTable({ phases, device }) {
    if (!phases) return [];
    const count = (value) => isAbsent(value) ? DASH : value.toLocaleString("en-US");
    const total = (field) => phases.reduce((sum, phase) => sum + (phase[field] ?? 0), 0);
    const row = (name, { epochs, samples, weight_steps, architecture_steps, peak_lr, seconds }) => [
      name, count(epochs), count(samples), count(weight_steps), count(architecture_steps), count(peak_lr),
      fixed(seconds, 1),
    ];
    const sum = {
      epochs: total("epochs"),
      samples: total("samples") || null,
      weight_steps: total("weight_steps") || null,
      architecture_steps: total("architecture_steps") || null,
      peak_lr: null,
      seconds: total("seconds"),
    };
    return [heading("Cost"), table(
      ["", "Epochs", "Samples seen", "Weight steps", "Architecture steps", "Peak rate", `Seconds on ${device}`],
      [...phases.map((phase) => row(phase.name === "dense" ? "dense (shared)" : phase.name, phase)), row("total", sum)],
    )];
  }

  function latencyFacts({ latencies }) {
    if (!latencies) return [];
    const line = ({ median_ms, iqr_ms, at }) => `${fixed(median_ms, 3)} ms (IQR ${fixed(iqr_ms, 3)}), ${at}`;
    return [facts(latencies.flatMap(({ dense, pruned }) =>
      [["Latency, dense", line(dense)], ["Latency, pruned", line(pruned)]]))];
  }

  const widthsFigure = (details) => details.widths ? [heading("Widths"), cellWidths(details)] : [];

  /** Blocks that were removed as a whole, and layers that were not pruned, with the reasons. */
  function leftAlone({ dropped_blocks, left_whole }) {
    return [
      ...(dropped_blocks ? [facts([["Blocks removed", dropped_blocks.join(", ")]])] : []),
      ...(left_whole ? [heading("Left whole"), facts(Object.entries(left_whole))] : []),
    ];
  }

  function curvesFigures({ curves }) {
    if (!curves) return [];
    const figures = Object.entries(curves.values).slice(0, MAX_CURVES)
      .flatMap(([name, values]) => curveFigure(name, values, curves));
    return [heading("Curves"), el("div", { class: "plots" }, figures)];
  }

  /** One figure over the epochs of each phase; none for a single point. */
  function curveFigure(name, values, { epoch, phase }) {
    const points = values
      .map((value, place) => ({ value, epoch: epoch[place], phase: phase[place] }))
      .filter((point) => point.value !== null && point.epoch !== null);
    if (points.length < 2) return [];
    const phases = [...new Set(points.map((point) => point.phase))];
    return [el("figure", {}, el("figcaption", {}, name), Plot.plot({
      width: 280,
      height: 150,
      marginLeft: 44,
      marginBottom: 30,
      style: { fontSize: "10px", background: "transparent" },
      x: { label: "epoch", ticks: 3, labelArrow: "none" },
      y: { label: null, grid: true, ticks: 4, nice: true },
      fx: { domain: phases, label: null },
      marks: [Plot.lineY(points, { x: "epoch", y: "value", fx: "phase", stroke: "var(--accent)" })],
    }))];
  }

  function samplePictures(cell) {
    const pictures = lookUp(thumbnails, cell.id);
    if (!pictures) return [];
    const figures = pictures.map(({ name, uri }) =>
      el("figure", {}, el("img", { src: uri, alt: name }), el("figcaption", {}, name)));
    return [heading("Pictures"), el("div", { class: "thumbs" }, figures)];
  }

  function notesList({ notes }) {
    return notes ? [heading("Notes"), el("ul", {}, notes.map((note) => el("li", {}, note)))] : [];
  }

  const folded = (title, content) => el("details", {}, el("summary", {}, title), content);

  function configurationText(cell, { configuration, workload }) {
    const whole = { ...configuration, seed: cell.seed, workload };
    return [folded("Configuration", el("pre", {}, JSON.stringify(whole, null, 2)))];
  }

  function environmentFacts({ environment }) {
    const values = Object.entries(environment ?? {});
    return values.length ? [folded("Environment", facts(values))] : [];
  }

  prunebench.cell = { entryView, cellView };
}
