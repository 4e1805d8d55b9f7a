// What is shown of a run, and in which order.
"use strict";

(function (xraycam) {
  const make = xraycam.make;

  // `sorts`: [[value, label]]; `extra`: further [name, label, [[value, label]]] of the source.
  xraycam.Filters = class {
    constructor(form, facts, sorts, extra, live, onChange) {
      this.fields = {};
      this.onChange = onChange;
      const counts = facts.counts;
      const some = (name, label, all, values, text) =>
        this.choice(name, label, [["", all], ...Object.entries(values).map(([value, count]) => [
          value, count === null ? text(value) : `${text(value)} (${xraycam.number(count)})`,
        ])]);
      this.search = make("input", {
        type: "search", id: "filter-name", placeholder: "Part of a name", autocomplete: "off", spellcheck: "false",
        oninput: () => { clearTimeout(this.waiting); this.waiting = setTimeout(() => this.changed(), 200); },
      });
      this.fields.name = this.search;
      const parts = [
        make("span", { class: "field wide" }, make("label", { for: "filter-name" }, "Name"), this.search),
        this.choice("sort", "Sort by", sorts, true),
        some("class", "Class", "Every class", counts.classes, String),
        Object.keys(counts.decisions).length
          ? some("decision", "Decision", "Every decision", counts.decisions, xraycam.decision) : null,
        facts.images.failed
          ? this.choice("reason", "Failed", [
              // The server lists one or the other, in pages by key.
              ...(live ? [["", "Explained"]] : [["", "Explained and failed"], ["-", "Explained only"]]), ["*", `Failed (${xraycam.number(facts.images.failed)})`],
              ...Object.entries(counts.reasons).map(([value, count]) => [
                value, `Failed: ${xraycam.words(value)} (${xraycam.number(count)})`,
              ]),
            ]) : null,
        Object.keys(counts.odd).length
          ? some("odd", "Oddness", "Odd or not", { "*": null, ...counts.odd },
              (value) => (value === "*" ? "Anything odd" : xraycam.words(value))) : null,
        this.choice("corner", "Heat in corners", [
          ["", "Any"], ["0.25", "25% or more (chance)"], ["0.45", "45% or more"], ["0.6", "60% or more"],
        ]),
        ...extra.map(([name, label, values]) => this.choice(name, label, values)),
      ];
      this.clear = make("button", { type: "button", onclick: () => this.reset() }, "Clear filters");
      xraycam.replace(form, parts, this.clear);
      form.addEventListener("submit", (event) => event.preventDefault());
    }

    choice(name, label, values, wide) {
      const id = `filter-${name}`;
      const select = make(
        "select", { id, onchange: () => this.changed() }, values.map(([value, text]) => make("option", { value }, text))
      );
      this.fields[name] = select;
      return make("span", { class: wide === true ? "field wide" : "field" }, make("label", { for: id }, label), select);
    }

    // The chosen values by name, those left at "any" left out.
    query() {
      const found = {};
      for (const [name, field] of Object.entries(this.fields)) if (field.value) found[name] = field.value;
      return found;
    }

    set(values) {
      for (const [name, field] of Object.entries(this.fields)) {
        if (name !== "sort") field.value = values[name] || "";
      }
      this.changed();
    }

    reset() {
      this.set({});
    }

    changed() {
      clearTimeout(this.waiting);
      this.onChange(this.query());
    }

    focus() {
      this.search.focus();
      this.search.select();
    }
  };

  // Whether a row of a report is wanted by a query.
  xraycam.matches = function (row, query) {
    if (query.name && !row.name.toLowerCase().includes(query.name.toLowerCase())) return false;
    if (query.class && row.class !== query.class && !xraycam.seen(row).includes(query.class)) return false;
    if (query.decision && row.decision !== query.decision) return false;
    if (query.reason === "-" && row.status !== "done") return false;
    if (query.reason === "*" && row.status !== "failed") return false;
    if (query.reason && query.reason !== "-" && query.reason !== "*" && row.reason !== query.reason) return false;
    if (query.odd === "*" && !(row.odd && row.odd.length)) return false;
    if (query.odd && query.odd !== "*" && !(row.odd && row.odd.includes(query.odd))) return false;
    if (query.corner && !(row.corner >= Number(query.corner))) return false;
    if (query.compare === "differ" && !xraycam.disagree(row)) return false;
    if (query.compare === "agree" && (xraycam.disagree(row) || !row.other || xraycam.changed(row))) return false;
    if (query.compare === "changed" && !xraycam.changed(row)) return false;
    return true;
  };

  // Whether the file was another when the other run explained it: what the two say is then no disagreement.
  xraycam.changed = (row) => Boolean(row.other && row.sha256 && row.other.sha256 && row.sha256 !== row.other.sha256);

  // Whether two runs say something else of one image: class, decision, or that it failed.
  xraycam.disagree = function (row) {
    const other = row.other;
    if (!other || xraycam.changed(row)) return false;
    return row.status !== other.status || xraycam.predicted(row) !== xraycam.predicted(other) || row.decision !== other.decision;
  };

  // What an order sorts by; undefined sorts last, whichever way.
  xraycam.sortValue = function (row, key) {
    if (key.startsWith("p:")) return (row.probabilities || {})[key.slice(2)];
    if (key === "margin") {
      if (row.score !== undefined) return Math.abs(row.score - (row.threshold === undefined ? 50 : row.threshold));
      return row.probability;
    }
    if (key === "difference") return difference(row);
    return row[key];
  };

  function difference(row) {
    const other = row.other;
    if (!other || xraycam.changed(row)) return undefined;
    if (row.score !== undefined && other.score !== undefined) return Math.abs(row.score - other.score);
    const ours = row.probabilities || {};
    const theirs = other.probabilities || {};
    const names = Object.keys(ours).filter((name) => name in theirs);
    return names.length ? Math.max(...names.map((name) => Math.abs(ours[name] - theirs[name]))) : undefined;
  }

  // `order`: "key" ascending or "-key" descending.
  xraycam.sorted = function (rows, order) {
    const descending = order.startsWith("-");
    const key = descending ? order.slice(1) : order;
    if (!key) return rows.slice();
    const values = rows.map((row, place) => [xraycam.sortValue(row, key), place]);
    const sign = descending ? -1 : 1;
    values.sort((a, b) => {
      if (a[0] === undefined || b[0] === undefined) {
        if (a[0] === b[0]) return a[1] - b[1];
        return a[0] === undefined ? 1 : -1;
      }
      if (typeof a[0] === "string") return sign * collator.compare(a[0], b[0]) || a[1] - b[1];
      return sign * (a[0] - b[0]) || a[1] - b[1];
    });
    return values.map(([, place]) => rows[place]);
  };

  const collator = new Intl.Collator("en", { numeric: true });
})(window.xraycam);
