// A reader's own judgement of an image; what other readers said is not shown.
"use strict";

(function (xraycam) {
  const make = xraycam.make;
  const VERDICTS = [["agree", "Agree", "a"], ["disagree", "Disagree", "d"], ["unsure", "Unsure", "u"]];

  xraycam.Review = class {
    constructor(source, facts, onSaved) {
      this.source = source;
      this.classes = facts.classes;
      this.onSaved = onSaved;
      this.keys = [["a, d, u", "agree, disagree, unsure"], ["1 to 9", "the class it shows"], ["t", "write a note"], ["x", "take the review back"]];
      this.buttons = VERDICTS.map(([verdict, label, key]) => make(
        "button", { type: "button", "aria-pressed": "false", "data-verdict": verdict, onclick: () => this.mark(verdict) }, label, " ", make("kbd", {}, key)));
      this.choice = make("select", { id: "review-class", onchange: () => this.name(this.choice.value) },
        make("option", { value: "" }, "not named"), this.classes.map((name) => make("option", { value: name }, name)));
      this.note = make("textarea", { id: "review-note", rows: 2, maxlength: 4000, onchange: () => this.write() });
      this.state = make("p", { class: "saved", role: "status" });
      this.element = make("fieldset", { class: "review" }, make("legend", {}, `Review by ${source.reader}`),
        make("div", { class: "verdicts" }, this.buttons),
        make("span", { class: "field" }, make("label", { for: "review-class" }, "Class it shows"), this.choice),
        make("span", { class: "field" }, make("label", { for: "review-note" }, "Note"), this.note), this.state);
    }

    show(row) {
      this.row = row && row.status === "done" ? row : null;
      this.element.disabled = !this.row;
      const review = this.row && this.row.review;
      this.put(review);
      this.state.textContent = !review || !review.when ? "" : review.outdated
        ? `Your review of ${review.when} (${[review.verdict, review.class, review.note].filter(Boolean).join(", ")}) does not count here: ${review.outdated}. Review it again.`
        : `Saved ${review.when}`;
    }

    // Of an earlier result nothing is marked: the reader has not judged this one.
    put(given) {
      const review = given && !given.outdated ? given : null;
      for (const button of this.buttons) button.setAttribute("aria-pressed", String(Boolean(review) && button.dataset.verdict === review.verdict));
      this.choice.value = (review && review.class) || "";
      this.note.value = (review && review.note) || "";
    }

    mark(verdict) {
      if (!this.row) return;
      // Of two classes, not the one means the other: shown, and to be changed.
      const others = this.classes.filter((name) => name !== this.row.class);
      const named = verdict === "agree" ? this.row.class : verdict === "disagree" && others.length === 1 ? others[0] : null;
      this.save({ verdict, class: named, note: this.note.value || null });
    }

    name(value) {
      if (!this.row) return;
      const verdict = !value ? "unsure" : value === this.row.class ? "agree" : "disagree";
      this.save({ verdict, class: value || null, note: this.note.value || null });
    }

    write() {
      if (!this.row) return;
      const review = this.row.review;
      const before = review && !review.outdated ? review : { verdict: "unsure", class: null };
      this.save({ verdict: before.verdict, class: before.class, note: this.note.value || null });
    }

    async save(review) {
      const row = this.row;
      const before = row.review;
      if (review) row.review = review;
      else delete row.review;
      this.put(review);
      try {
        await this.source.save(row, review);
        if (this.row === row) this.state.textContent = review ? "Saved" : "Taken back";
        this.onSaved(row);
      } catch (error) {
        if (before) row.review = before;
        else delete row.review;
        if (this.row === row) {
          this.put(before);
          this.state.textContent = `Not saved: ${error.message}`;
        }
        xraycam.notify(`The review of ${row.name} was not saved: ${error.message}`);
      }
    }

    actions() {
      const actions = { t: () => this.note.focus(), x: () => this.row && this.save(null) };
      for (const [verdict, , key] of VERDICTS) actions[key] = () => this.mark(verdict);
      this.classes.slice(0, 9).forEach((name, place) => { actions[String(place + 1)] = () => this.name(name); });
      return actions;
    }
  };
})(window.xraycam);
