// A list of any length of which only the rows in view exist.
"use strict";

(function (xraycam) {
  const HEIGHT = 76;
  const AROUND = 6;

  // `options.label(row)` gives the content of a row, `options.onSelect(row, index)` is called for a choice,
  // `options.onNearEnd()` when the last rows come into view.
  xraycam.List = class {
    constructor(element, options) {
      this.element = element;
      this.options = options;
      this.rows = [];
      this.total = 0;
      this.selected = -1;
      this.space = xraycam.make("div", { class: "space", role: "presentation" });
      this.shown = new Map();
      this.element.append(this.space);
      this.element.addEventListener("scroll", () => this.draw());
      this.element.addEventListener("keydown", (event) => this.onKey(event));
      new ResizeObserver(() => this.draw()).observe(this.element);
    }

    // `total` is null where it is not known yet how many rows there are.
    show(rows, total, selected) {
      this.rows = rows;
      this.total = total;
      for (const element of this.shown.values()) element.remove();
      this.shown.clear();
      this.element.scrollTop = 0;
      this.grow();
      this.select(rows.length ? Math.min(Math.max(selected || 0, 0), rows.length - 1) : -1);
    }

    grow(total) {
      if (total !== undefined) this.total = total;
      this.space.style.height = `${this.rows.length * HEIGHT}px`;
      this.draw();
    }

    // Draw the row anew, after what it shows has changed.
    refresh(index) {
      const element = this.shown.get(index);
      if (element) {
        element.remove();
        this.shown.delete(index);
        this.draw();
      }
    }

    select(index) {
      if (index >= this.rows.length) return false;
      const before = this.shown.get(this.selected);
      if (before) before.setAttribute("aria-selected", "false");
      this.selected = index;
      if (index < 0) {
        this.element.removeAttribute("aria-activedescendant");
        this.options.onSelect(null, -1);
        return true;
      }
      this.scrollTo(index);
      this.draw();
      const now = this.shown.get(index);
      if (now) {
        now.setAttribute("aria-selected", "true");
        this.element.setAttribute("aria-activedescendant", now.id);
      }
      this.options.onSelect(this.rows[index], index);
      if (index > this.rows.length - AROUND * 3) this.options.onNearEnd();
      return true;
    }

    step(by) {
      if (!this.rows.length) return;
      this.select(Math.min(Math.max(this.selected + by, 0), this.rows.length - 1));
    }

    scrollTo(index) {
      const top = index * HEIGHT;
      const height = this.element.clientHeight;
      if (top < this.element.scrollTop) this.element.scrollTop = top;
      else if (top + HEIGHT > this.element.scrollTop + height) this.element.scrollTop = top + HEIGHT - height;
    }

    draw() {
      const height = this.element.clientHeight;
      const first = Math.max(0, Math.floor(this.element.scrollTop / HEIGHT) - AROUND);
      const last = Math.min(
        this.rows.length,
        Math.ceil((this.element.scrollTop + height) / HEIGHT) + AROUND
      );
      for (const [index, element] of this.shown) {
        if (index < first || index >= last) {
          element.remove();
          this.shown.delete(index);
        }
      }
      for (let index = first; index < last; index++) {
        if (!this.shown.has(index)) this.add(index);
      }
      if (last >= this.rows.length - AROUND && this.rows.length) this.options.onNearEnd();
    }

    add(index) {
      const element = xraycam.make(
        "div",
        {
          class: "row",
          role: "option",
          id: `row-${index}`,
          "aria-selected": index === this.selected ? "true" : "false",
          "aria-posinset": index + 1,
          "aria-setsize": this.total === null ? -1 : this.total,
          onclick: () => this.select(index),
        },
        this.options.label(this.rows[index])
      );
      element.style.top = `${index * HEIGHT}px`;
      this.shown.set(index, element);
      this.space.append(element);
    }

    onKey(event) {
      const page = Math.max(1, Math.floor(this.element.clientHeight / HEIGHT) - 1);
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
      if (event.key in steps && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        const by = steps[event.key];
        if (Number.isFinite(by)) this.step(by);
        else this.select(by < 0 ? (this.rows.length ? 0 : -1) : this.rows.length - 1);
      }
    }
  };
})(window.xraycam);
