// The page of a run: list, selected image, summary, keys.
"use strict";

(function (xraycam) {
  const make = xraycam.make;
  const byId = xraycam.byId;
  const KEYS = [
    ["n, j or right arrow", "next image"], ["p, k or left arrow", "previous image"], ["b", "blink original and overlay"],
    ["o", "original"], ["h", "overlay"], ["[ and ]", "fade the overlay"], ["s", "side by side"], ["f or /", "find by name"],
    ["i", "images"], ["m", "summary"], ["Escape", "back to the list"], ["?", "these keys"],
  ];

  class Viewer {
    async start() {
      this.source = xraycam.makeSource();
      this.facts = await this.source.facts();
      xraycam.findings = this.facts.findings_known === false ? null : this.facts.findings || [];
      const run = this.facts.run;
      byId("title").textContent = this.facts.other
        ? `Runs ${run.id} and ${this.facts.other.run.id}` : `Run ${run.id}`;
      byId("place").textContent = run.root;
      document.title = `${byId("title").textContent} · xraycam`;
      xraycam.notify(this.facts.left_out);
      this.stage = new xraycam.Stage();
      this.list = new xraycam.List(byId("list"), {
        label: (row) => this.label(row),
        onSelect: (row, index) => this.show(row, index),
        onNearEnd: () => this.more(),
      });
      this.filters = new xraycam.Filters(
        byId("filters"), this.facts, this.source.sorts(this.facts), this.source.choices(this.facts), this.source.live, (query) => this.open(query)
      );
      this.name = make("h2", { class: "name" });
      this.place = make("p", { class: "position" });
      this.facts_ = make("div", { class: "facts" });
      this.review = this.source.review ? new xraycam.Review(this.source, this.facts, (row) => this.reviewed(row)) : null;
      xraycam.replace(byId("detail"),
        make("div", { class: "bar" },
          make("button", { type: "button", class: "step", id: "previous", onclick: () => this.list.step(-1) }, "← Previous ", make("kbd", {}, "p")),
          make("div", { class: "which" }, this.name, this.place),
          make("button", { type: "button", class: "step", id: "next", onclick: () => this.list.step(1) }, "Next ", make("kbd", {}, "n"), " →")),
        make("div", { class: "body" }, this.stage.element,
          make("div", { class: "panel" }, this.review ? this.review.element : null, this.facts_)));
      this.help();
      byId("tab-images").addEventListener("click", () => this.tab("images"));
      byId("tab-summary").addEventListener("click", () => this.tab("summary"));
      byId("tab-help").addEventListener("click", () => byId("help").showModal());
      document.addEventListener("keydown", (event) => this.onKey(event));
      await this.open(this.filters.query());
      document.body.dataset.ready = "true";
    }

    async open(query) {
      const turn = (this.turn = (this.turn || 0) + 1);
      let opened;
      try {
        opened = await this.source.open(query);
      } catch (error) {
        xraycam.notify(error.message);
        return;
      }
      if (turn !== this.turn) return;
      this.opened = opened;
      this.list.show(opened.rows, opened.total, 0);
      this.count();
    }

    async more() {
      const opened = this.opened;
      if (!opened || opened.isComplete || opened.loading) return;
      opened.loading = true;
      try {
        await opened.more();
      } catch (error) {
        xraycam.notify(error.message);
        opened.isComplete = true;
      }
      opened.loading = false;
      if (opened !== this.opened) return;
      this.list.grow(opened.total);
      this.count();
      if (this.list.selected < 0 && opened.rows.length) this.list.select(0);
      else this.position();
    }

    count() {
      const { rows, total, isComplete } = this.opened;
      const all = this.source.all();
      let text;
      if (total !== null && total === all) text = xraycam.images(total);
      else if (total !== null) text = `${xraycam.number(total)} of ${xraycam.images(all)}`;
      else text = `${xraycam.number(rows.length)} loaded${isComplete ? "" : ", more follow"}, of ${xraycam.images(all)}`;
      byId("count").textContent = text;
    }

    label(row) {
      const url = this.source.thumbnail(row);
      const badges = [];
      if (row.status === "failed") badges.push(make("span", { class: "badge failed" }, xraycam.words(row.reason || "failed")));
      if (row.decision) badges.push(make("span", { class: `badge ${row.decision}` }, xraycam.decision(row.decision)));
      for (const word of row.odd || []) badges.push(make("span", { class: "badge odd" }, xraycam.words(word)));
      if (row.blank) badges.push(make("span", { class: "badge" }, "blank map"));
      if (row.corner >= 0.45) badges.push(make("span", { class: "badge odd" }, `corners ${xraycam.percent(row.corner)}`));
      if (xraycam.changed(row)) badges.push(make("span", { class: "badge odd" }, "file changed"));
      if (xraycam.disagree(row)) badges.push(make("span", { class: "badge odd" }, "runs disagree"));
      const verdict = row.review && (row.review.outdated ? "outdated" : row.review.verdict);
      if (verdict) badges.push(make("span", { class: `badge review ${verdict}` }, verdict === "outdated" ? "review outdated" : verdict));
      return [
        url ? make("img", { src: url, alt: "", loading: "lazy", class: "small" }) : make("span", { class: "small none", "aria-hidden": "true" }, row.status === "failed" ? "!" : "…"),
        make("span", { class: "words" },
          make("span", { class: "title", title: row.name }, shortened(row.name)),
          make("span", { class: "said" }, row.class ? this.said(row) : null),
          make("span", { class: "badges" }, badges)),
      ];
    }

    said(row) {
      const dot = make("span", { class: "swatch" });
      dot.style.background = xraycam.colourOf(this.facts.classes, row.class);
      const value = row.score === undefined ? xraycam.probability(row.probability) : scoreOf(row);
      const names = xraycam.predicted(row);
      return [dot, make("span", { class: "named", title: names }, names), make("span", { class: "number" }, value)];
    }

    show(row, index) {
      this.row = row;
      byId("detail").classList.toggle("nothing", !row);
      if (!row) {
        this.name.textContent = "No image";
        this.place.textContent = "Nothing is left by these filters.";
        this.stage.show({}, "");
        xraycam.replace(this.facts_);
        if (this.review) this.review.show(null);
        return;
      }
      this.name.textContent = row.name;
      this.position();
      const other = row.other;
      const pictures = {};
      const add = (kind, url, label) => { if (url) pictures[kind] = { url, label }; };
      add("original", this.source.picture(row, "original"), "Original");
      const map = [row.target ? `Overlay: ${explained(row)}` : "Overlay", row.layer, row.method].filter(Boolean).join(", ");
      add("overlay", this.source.picture(row, "overlay"), other ? `Run ${this.facts.run.id}, ${row.version}. ${map}` : map);
      if (other) {
        add("beside", this.source.picture(other, "overlay"), `Run ${this.facts.other.run.id}, ${other.version}. Overlay: ${[explained(other), other.layer, other.method].filter(Boolean).join(", ")}`);
      }
      const failure = row.status === "failed" ? `Not explained (${xraycam.words(row.reason || "failed")}): ${row.error || ""}` : "";
      this.stage.show(pictures, [failure, this.source.missing(row)].filter(Boolean).join(" "));
      xraycam.replace(this.facts_, xraycam.factsOf(row, this.facts));
      if (this.review) this.review.show(row);
    }

    position() {
      const { rows, total } = this.opened || { rows: this.list.rows, total: this.list.total };
      const index = this.list.selected;
      this.place.textContent = index < 0 ? "" : `${xraycam.number(index + 1)}${total === null ? "" : ` of ${xraycam.number(total)}`}`;
      byId("previous").disabled = index <= 0;
      byId("next").disabled = index >= rows.length - 1;
    }

    reviewed(row) {
      const index = this.list.rows.indexOf(row);
      if (index >= 0) this.list.refresh(index);
    }

    tab(name) {
      const isSummary = name === "summary";
      byId("images").hidden = isSummary;
      byId("summary").hidden = !isSummary;
      byId("tab-images").setAttribute("aria-pressed", String(!isSummary));
      byId("tab-summary").setAttribute("aria-pressed", String(isSummary));
      if (isSummary) {
        this.stage.stop();
        xraycam.showSummary(byId("summary"), this.facts, (query) => { this.filters.set(query); this.tab("images"); byId("list").focus(); });
        if (this.facts.other) {
          const other = make("div", {});
          xraycam.showSummary(other, this.facts.other, () => {});
          byId("summary").append(make("h2", { class: "other" }, `Run ${this.facts.other.run.id}`), ...other.children);
        }
      } else this.list.draw();
    }

    help() {
      const keys = [...KEYS, ...(this.review ? this.review.keys : [])];
      const enabled = make("input", { type: "checkbox", id: "keys-on", checked: true });
      this.keysOn = enabled;
      xraycam.replace(byId("help"),
        make("h2", { id: "help-title" }, "Keys"),
        make("dl", { class: "keys" }, keys.map(([key, what]) => make("div", {}, make("dt", {}, key), make("dd", {}, what)))),
        make("p", {}, enabled, make("label", { for: "keys-on" }, " Single keys are on")),
        make("form", { method: "dialog" }, make("button", { type: "submit" }, "Close")));
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
      const target = event.target;
      const isField = target.matches("input:not([type=range]), select, textarea");
      if (event.key === "Escape" && isField) {
        byId("list").focus();
        return;
      }
      if (isField || (!this.keysOn.checked && event.key.length === 1)) return;
      const isRange = target.matches("input[type=range]");
      const actions = {
        n: () => this.list.step(1), j: () => this.list.step(1), p: () => this.list.step(-1), k: () => this.list.step(-1),
        b: () => this.stage.blink(), o: () => this.stage.only(0), h: () => this.stage.only(1), s: () => this.stage.sideBySide(),
        "[": () => this.stage.only(Math.max(0, this.stage.share - 0.1)), "]": () => this.stage.only(Math.min(1, this.stage.share + 0.1)),
        f: () => { this.tab("images"); this.filters.focus(); }, "/": () => { this.tab("images"); this.filters.focus(); },
        i: () => this.tab("images"), m: () => this.tab("summary"), "?": () => byId("help").showModal(),
      };
      if (!isRange) Object.assign(actions, { ArrowRight: () => this.list.step(1), ArrowLeft: () => this.list.step(-1) });
      if (byId("images").hidden) for (const key of Object.keys(actions)) if (!"imf/?".includes(key)) delete actions[key];
      if (this.review && this.row && !byId("images").hidden) Object.assign(actions, this.review.actions(event));
      if (event.key in actions) {
        event.preventDefault();
        actions[event.key]();
      }
    }
  }

  // With its threshold, as short as fits beside the name of a class.
  function scoreOf(row) {
    const [score, threshold] = xraycam.scoreAndThreshold(row);
    if (row.threshold === undefined) return `score ${score}`;
    return `score ${score} ${row.score >= row.threshold ? "≥" : "<"} ${threshold}`;
  }

  // The end of a long path tells more than its beginning.
  function shortened(name) {
    return name.length > 60 ? `…${name.slice(-59)}` : name;
  }

  // All names of twelve findings would hide the layer behind them.
  function explained(row) {
    const names = (row.target || "").split(",");
    return names.length > 3 ? `all ${names.length}` : names.join(", ");
  }

  // What the ledger has of one image, as a table.
  xraycam.factsOf = function (row, facts) {
    const other = row.other;
    const runs = other ? [row, other] : [row];
    const rows = [];
    const line = (label, value) => {
      const values = runs.map((one) => value(one));
      const given = (one) => one !== undefined && one !== null && one !== "" && one !== false;
      if (values.some(given)) rows.push([label, ...values.map((one) => (given(one) ? one : ""))]);
    };
    line("result", (one) => (one.status === "failed" ? `failed: ${xraycam.words(one.reason || "")}` : xraycam.predicted(one)));
    line("decision", (one) => one.decision && xraycam.decision(one.decision));
    line("score", (one) => xraycam.scoreAndThreshold(one)[0]);
    line("threshold", (one) => xraycam.scoreAndThreshold(one)[1]);
    const chance = (name) => (row.probabilities || {})[name] ?? -1;
    // Of two classes the order is always the same; of many findings the most probable is looked for.
    const names = facts.classes.length > 2 ? [...facts.classes].sort((a, b) => chance(b) - chance(a)) : facts.classes;
    for (const name of names) line(`probability of ${name}`, (one) => xraycam.probability((one.probabilities || {})[name]));
    line("odd", (one) => one.odd && (one.odd.map(xraycam.words).join(", ") || "nothing"));
    line("heat in corners (chance 25%)", (one) => xraycam.percent(one.corner));
    line("heat at border (chance 44%)", (one) => xraycam.percent(one.border));
    line("heat in marked area", (one) => xraycam.percent(one.mask));
    line("map", (one) => one.blank && "blank: no positive evidence");
    line("explained class", explained);
    line("layer and method", (one) => one.layer && `${one.layer} ${one.method || ""}`);
    line("model", (one) => one.version);
    line("size", (one) => one.width && `${one.width} × ${one.height}`);
    for (const [name, value] of Object.entries(row.header || {})) line(xraycam.words(name), (one) => (one === row ? plain(value) : plain((one.header || {})[name])));
    line("SHA-256", (one) => one.sha256 && `${one.sha256.slice(0, 16)}…`);
    const head = other ? ["", `run ${facts.run.id}`, `run ${facts.other.run.id}`] : ["what", "value"];
    return xraycam.table("Facts of the image", head, rows);
  };

  function plain(value) {
    return value !== null && typeof value === "object" ? JSON.stringify(value) : value === undefined || value === null ? "" : String(value);
  }

  document.addEventListener("DOMContentLoaded", () => {
    new Viewer().start().catch((error) => {
      xraycam.notify(error.message);
      xraycam.replace(byId("detail"), make("p", { class: "empty" }, "This page cannot be shown."));
      document.body.dataset.ready = "failed";
    });
  });
})(window.xraycam);
