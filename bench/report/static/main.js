// Draws everything and answers to the reader: filters, the address, the theme, printing.
"use strict";
{
  const { byId } = prunebench.base;
  const { entries, cells, cellById } = prunebench.data;
  const { selection, buildFilters, select } = prunebench.filters;
  const { buildTables, fillTables, filterFixedTables } = prunebench.tables;
  const { buildControls, drawLegend, drawPanels } = prunebench.figures;
  const { buildWidthControls, drawWidths } = prunebench.widths;
  const { entryView, cellView } = prunebench.cell;

  const root = document.documentElement;
  const dialog = byId("dialog");

  /** Everything but the widths, which need every cell's details; the promise is kept once the tables are drawn. */
  function draw() {
    select();
    const count = (list) => list.length.toLocaleString("en-US");
    byId("shown").textContent = `${count(selection.cells)} of ${count(cells)} cells shown`;
    byId("clear").hidden = selection.cells.length === cells.length;
    byId("marks").textContent = selection.rows.every((row) => row.whole)
      ? ""
      : "Ranks and marks hold for all seeds; they are hidden for a part of them.";
    drawLegend();
    drawPanels();
    root.dataset.shown = String(selection.cells.length);
    return fillTables();
  }

  let widthsReady = false;

  function redraw() {
    draw();
    filterFixedTables();
    if (widthsReady) drawWidths();
  }

  /** The address of the view that the dialog shows. */
  let shownAddress = "";

  /** Show the entry or the cell that the address names, and nothing where it names none. */
  function showView() {
    const [kind, value] = decodeURIComponent(location.hash.slice(1)).split(/=(.*)/s);
    const entry = kind === "entry" ? entries[Number(value)] : null;
    const cell = kind === "cell" ? cellById.get(value) : null;
    if (!entry && !cell) {
      if (dialog.open) dialog.close();
      return;
    }
    byId("detail").replaceChildren(...(cell ? cellView(cell) : entryView(entry)));
    shownAddress = location.hash;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }

  function switchTheme() {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  }

  function listen() {
    byId("theme").addEventListener("click", switchTheme);
    // The address may already name another view by the time that the dialog tells of its closing.
    dialog.addEventListener("close", () => {
      if (!dialog.open && location.hash === shownAddress) history.replaceState(null, "", "#");
    });
    // A click beside the dialog's content is one on the dialog itself.
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
    document.addEventListener("click", (event) => {
      const row = event.target.closest(".static tr[data-entry]");
      if (row && !event.target.closest("a")) location.hash = "entry=" + row.dataset.entry;
    });
    window.addEventListener("hashchange", showView);
    window.addEventListener("beforeprint", () => {
      for (const section of document.querySelectorAll("details.section")) section.open = true;
    });
  }

  async function begin() {
    await draw(); // a click on a row that is drawn again under it would be lost
    root.dataset.ready = String(Math.round(performance.now()));
    // Every cell's details are read after the first picture.
    setTimeout(() => {
      widthsReady = true;
      drawWidths();
      showView();
      // The tables lay themselves out once more for what the widths added to the page.
      requestAnimationFrame(() => requestAnimationFrame(() => (root.dataset.settled = "")));
    }, 30);
  }

  buildFilters(redraw);
  buildControls();
  buildWidthControls();
  listen();
  buildTables(begin);
}
