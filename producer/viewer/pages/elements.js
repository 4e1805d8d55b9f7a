// Elements are made from text alone: no name, class or message is ever read as markup.
"use strict";

window.xraycam = window.xraycam || {};

(function (xraycam) {
  const received = { run: null, rows: [] };

  // Data files of a report call this.
  xraycam.receive = function (kind, data) {
    if (kind === "rows") received.rows.push(...data);
    else received[kind] = data;
  };
  xraycam.received = received;

  // make("p", {class: "note", onclick: f}, "text", child, ...)
  xraycam.make = function (tag, attributes, ...children) {
    const element = document.createElement(tag);
    fill(element, attributes, children);
    return element;
  };

  const SVG = "http://www.w3.org/2000/svg";
  xraycam.draw = function (tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    fill(element, attributes, children);
    return element;
  };

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : String(value));
    }
    append(element, children);
  }

  function append(element, children) {
    for (const child of children.flat(3)) {
      if (child === null || child === undefined || child === false) continue;
      element.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }

  xraycam.replace = function (element, ...children) {
    element.replaceChildren();
    append(element, children);
  };

  xraycam.byId = (id) => document.getElementById(id);

  xraycam.number = (value) => Number(value).toLocaleString("en");
  xraycam.images = (count) => `${xraycam.number(count)} ${count === 1 ? "image" : "images"}`;
  xraycam.percent = (value) => (value === undefined ? "" : `${(100 * value).toFixed(0)}%`);
  xraycam.probability = (value) => (value === undefined ? "" : value.toFixed(3));

  // The score and the threshold of a row, with one decimal, or so many more that a score below its threshold
  // reads as such; as score_and_threshold of worker/score_words.py.
  xraycam.scoreAndThreshold = function ({ score, threshold }) {
    let places = 1;
    if (score < threshold) while (places < 15 && score.toFixed(places) === threshold.toFixed(places)) places += 1;
    return [score, threshold].map((value) => (value === undefined ? "" : value.toFixed(places)));
  };

  const DECISIONS = { refer: "Refer", "do-not-refer": "Do not refer", "not-decided": "Not decided" };
  xraycam.decision = (value) => DECISIONS[value] || value;
  // `crashed-worker` is shown as "crashed worker".
  xraycam.words = (value) => String(value).replaceAll("-", " ").replaceAll("_", " ");

  // Which classes of the run do not exclude each other, null: not known; and those of them that an image has at 0.5 or
  // more, the most probable first.
  xraycam.findings = [];
  xraycam.seen = (row) => Object.entries(row.probabilities || {})
    .filter(([name, value]) => value >= 0.5 && (!xraycam.findings || xraycam.findings.includes(name)))
    .sort((a, b) => b[1] - a[1])
    .map(([name]) => name);
  xraycam.predicted = (row) => (xraycam.seen(row).length > 1 ? xraycam.seen(row).join(", ") : row.class);

  // Each class has one colour in every chart, chosen to be told apart with any colour vision.
  const COLOURS = ["#6ea8dc", "#e9a34b", "#63b58f", "#c58bd6", "#d97b7b", "#b9b35a", "#7fc3c9", "#b0907a"];
  xraycam.colourOf = (classes, name) => COLOURS[Math.max(0, classes.indexOf(name)) % COLOURS.length];

  xraycam.table = function (caption, head, rows) {
    return xraycam.make(
      "div",
      { class: "scrolling", tabindex: "0", role: "region", "aria-label": caption },
      xraycam.make(
        "table",
        {},
        xraycam.make("caption", { class: "unseen" }, caption),
        xraycam.make(
          "thead",
          {},
          xraycam.make("tr", {}, head.map((name) => xraycam.make("th", { scope: "col" }, name)))
        ),
        xraycam.make(
          "tbody",
          {},
          rows.map((row) =>
            xraycam.make(
              "tr",
              {},
              row.map((cell, place) => xraycam.make(place ? "td" : "th", place ? {} : { scope: "row" }, cell))
            )
          )
        )
      )
    );
  };

  xraycam.notify = function (text) {
    const notice = xraycam.byId("notice");
    notice.textContent = text || "";
    notice.hidden = !text;
  };
})(window.xraycam);
