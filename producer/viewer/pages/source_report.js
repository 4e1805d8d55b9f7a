// The rows of a report, from data files beside it: all in memory, filtered and sorted here.
"use strict";

(function (xraycam) {
  function load(file) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = file;
      script.onload = () => { script.remove(); resolve(); };
      script.onerror = () => reject(new Error(`${file} is missing; copy the whole folder of the report`));
      document.head.append(script);
    });
  }

  class ReportSource {
    constructor() {
      this.live = false;
      this.review = null;
    }

    async facts() {
      await load("data/run.js");
      const facts = xraycam.received.run;
      const files = Array.from({ length: facts.files }, (_, place) => `data/rows-${String(place + 1).padStart(4, "0")}.js`);
      await Promise.all(files.map(load));
      this.rows = xraycam.received.rows;
      return facts;
    }

    sorts(facts) {
      const has = (key) => this.rows.some((row) => row[key] !== undefined);
      const sorts = [];
      if (this.rows.some((row) => row.other)) sorts.push(["-difference", "Difference between the runs"]);
      if (has("score")) sorts.push(["-score", "Score, highest first"], ["score", "Score, lowest first"]);
      sorts.push(["name", "Name"]);
      if (has("score")) sorts.push(["margin", "Nearest to the threshold"]);
      for (const name of facts.classes) sorts.push([`-p:${name}`, `Probability of ${name}`]);
      sorts.push(
        ["-probability", "Probability of the predicted class"], ["probability", "Least certain first"],
        ["-corner", "Heat in corners"], ["-border", "Heat at the border"]
      );
      if (has("mask")) sorts.push(["-mask", "Heat in the marked area"], ["mask", "Heat outside the marked area"]);
      return sorts;
    }

    choices(facts) {
      const changed = this.rows.some(xraycam.changed) ? [["changed", "File changed between them"]] : [];
      return facts.other
        ? [["compare", "Compared", [["", "Both runs"], ["differ", "Runs disagree"], ["agree", "Runs agree"], ...changed]]]
        : [];
    }

    async open(query) {
      const chosen = this.rows.filter((row) => xraycam.matches(row, query));
      return { rows: xraycam.sorted(chosen, query.sort), total: chosen.length, isComplete: true };
    }

    all() {
      return this.rows.length;
    }

    picture(row, kind) {
      return row[kind];
    }

    thumbnail(row) {
      return row.overlay || row.original;
    }

    missing(row) {
      const changed = xraycam.changed(row) && "the file changed between the runs: their results are of two pictures";
      return [row.note, changed, ...(row.without || [])].filter(Boolean).join("; ");
    }
  }

  xraycam.makeSource = () => new ReportSource();
})(window.xraycam);
