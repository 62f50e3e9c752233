// What the page's other scripts stand on: elements, figures as text, rows with names.
//
// The page embeds these files in this order, each as a script of its own; a file uses only those before it:
//
//   base     elements, figures as text, rows with names
//   data     the report's methods, workloads, entries and cells; the details of one cell
//   filters  which cells are shown, and the means of their entries
//   tables   the two tables that can be sorted, and the fixed ones
//   figures  the legend, and the metric against a cost
//   widths   the widths of channel groups: of entries side by side, and of one cell
//   cell     the view of one entry and the view of one cell
//   main     draws everything and answers to the reader
//
// Each file keeps its names inside a block and offers what others need as one member of `prunebench`. A `const` at the
// top of a classic script is seen by the scripts after it and is no property of `window`: this is the only name that
// the files share, and their first lines say what each takes from which other.
//
// Scripts write text and never markup, since names come from suite files and third parties.
"use strict";
const prunebench = {};
{
  const DASH = "–";
  const MINUS = "−";

  const byId = (id) => document.getElementById(id);

  const isAbsent = (value) => value === null || value === undefined;

  /** A new element. An attribute `onNAME` is a listener; one that is absent or false is left out, and so is a child. */
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (isAbsent(value) || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat()) if (!isAbsent(child)) node.append(child);
    return node;
  }

  /** A figure with so many decimals; a dash where there is none. */
  const fixed = (value, digits) => isAbsent(value) ? DASH : value.toFixed(digits).replace("-", MINUS);

  const signed = (value, digits) => isAbsent(value) ? DASH : (value > 0 ? "+" : "") + fixed(value, digits);

  /** Mean and standard deviation; `number` is `fixed` or `signed`. */
  function plusMinus(sample, digits, number = fixed) {
    if (sample.mean === null) return DASH;
    return number(sample.mean, digits) + (sample.std === null ? "" : " ± " + fixed(sample.std, digits));
  }

  /** A name of at most `limit` characters, cut in its middle: swept values stand at its end. */
  function clip(text, limit) {
    if (text.length <= limit) return text;
    const head = Math.floor(limit / 2);
    return text.slice(0, head) + "…" + text.slice(text.length - (limit - 1 - head));
  }

  /** A row of the data, which travels as a list, as an object with the names of the row's header. */
  function named(fields, row) {
    return Object.fromEntries(fields.map((name, place) => [name, row[place]]));
  }

  /** What a dictionary with keys from outside holds, and null where it does not. */
  const lookUp = (dictionary, key) => Object.hasOwn(dictionary, key) ? dictionary[key] : null;

  // The views of entries and cells are addresses of the page, so that they can be linked to.
  const entryHref = (entry) => "#entry=" + entry.index;
  const cellHref = (cell) => "#cell=" + encodeURIComponent(cell.id);

  prunebench.base = {
    DASH, byId, isAbsent, el, fixed, signed, plusMinus, clip, named, lookUp, entryHref, cellHref,
  };
}
