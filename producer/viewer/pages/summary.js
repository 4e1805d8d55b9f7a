// A run as a whole: counts, failures, histograms, what was measured of its models, how it was made.
"use strict";

(function (xraycam) {
  const make = xraycam.make;
  const draw = xraycam.draw;

  // `onChoose(query)` shows the images that a bar stands for.
  xraycam.showSummary = function (element, facts, onChoose) {
    const counts = facts.counts;
    const parts = [card("Images", tiles(facts))];
    if (facts.warnings.length) {
      parts.push(card("Before the maps are believed", make("ul", { class: "warnings" }, facts.warnings.map((text) => make("li", {}, text)))));
    }
    if (Object.keys(counts.reasons).length) {
      parts.push(card("Failures by reason", bars(counts.reasons, (reason) => xraycam.words(reason), (reason) => onChoose({ reason }))));
    }
    if (Object.keys(counts.decisions).length) {
      parts.push(card("Decisions", bars(counts.decisions, xraycam.decision, (decision) => onChoose({ decision }))));
    }
    if (counts.scores.some(Boolean)) {
      const text = "Calibrated probability of the model's positive class, 0 to 100.";
      parts.push(card("Scores", make("p", {}, text), histogram("Score", { images: counts.scores }, 0, 100, ["images"])));
    }
    if (Object.keys(counts.probabilities).length) {
      parts.push(card("Probability of the predicted class",
        histogram("Probability", counts.probabilities, 0, 1, facts.classes)));
    }
    if (Object.keys(counts.odd).length) {
      parts.push(card("Odd images", bars(counts.odd, xraycam.words, (odd) => onChoose({ odd }))));
    } else if (counts.not_checked) {
      parts.push(card("Odd images", make("p", {}, `${xraycam.images(counts.not_checked)} not checked for oddness.`)));
    }
    for (const model of facts.models) parts.push(modelCard(model));
    parts.push(made(facts));
    xraycam.replace(element, parts);
  };

  function card(title, ...content) {
    return make("section", { class: "card" }, make("h2", {}, title), content);
  }

  function tiles(facts) {
    const images = facts.images;
    const rows = [["images", images.all], ["explained", images.done], ["failed", images.failed]];
    if (images.pending) rows.push(["without a result yet", images.pending]);
    for (const [name, count] of Object.entries(facts.counts.classes)) {
      rows.push([(facts.findings || []).includes(name) ? `${name} at 0.5 or more` : `predicted ${name}`, count]);
    }
    return make(
      "dl", { class: "tiles" },
      rows.map(([label, count]) => make("div", {}, make("dt", {}, label), make("dd", {}, xraycam.number(count))))
    );
  }

  function bars(counts, text, onChoose) {
    const most = Math.max(...Object.values(counts), 1);
    return make(
      "ul", { class: "bars" },
      Object.entries(counts).map(([value, count]) => {
        const bar = make("span", { class: "share" });
        bar.style.width = `${(100 * count) / most}%`;
        return make(
          "li", {},
          make("button", { type: "button", onclick: () => onChoose(value) },
            make("span", { class: "label" }, text(value)), make("span", { class: "track" }, bar),
            make("span", { class: "value" }, xraycam.number(count)))
        );
      })
    );
  }

  // `series`: counts in equal steps of `low` to `high`, by name; drawn one upon the other.
  function histogram(label, series, low, high, names) {
    const known = Object.keys(series).sort((a, b) => names.indexOf(a) - names.indexOf(b));
    const bins = series[known[0]].length;
    const totals = Array.from({ length: bins }, (_, bin) => known.reduce((sum, name) => sum + series[name][bin], 0));
    const most = Math.max(...totals, 1);
    const width = 640, height = 200, left = 46, bottom = 40;
    const step = (width - left) / bins;
    const high_y = (count) => (height - bottom - 10) * (count / most);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "histogram",
      "aria-label": `Histogram: ${label}; the table below has the numbers` });
    for (const part of [0, 0.5, 1]) {
      const y = height - bottom - high_y(most * part);
      svg.append(draw("line", { x1: left, x2: width, y1: y, y2: y, class: "grid" }),
        draw("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, xraycam.number(Math.round(most * part))));
    }
    for (let bin = 0; bin < bins; bin++) {
      let y = height - bottom;
      for (const name of known) {
        const tall = high_y(series[name][bin]);
        y -= tall;
        const mark = draw("rect", { x: left + bin * step + 1, y, width: step - 2, height: tall,
          fill: known.length > 1 || names.includes(name) ? xraycam.colourOf(names, name) : "#9aa3ad" });
        mark.append(draw("title", {}, `${name}, ${range(low, high, bins, bin)}: ${xraycam.number(series[name][bin])}`));
        svg.append(mark);
      }
    }
    for (let tick = 0; tick <= 4; tick++) {
      const x = left + ((width - left) * tick) / 4;
      svg.append(draw("text", { x: tick === 4 ? x - 2 : x, y: height - bottom + 18, "text-anchor": tick === 4 ? "end" : tick ? "middle" : "start" },
        String(low + ((high - low) * tick) / 4)));
    }
    svg.append(draw("text", { x: left + (width - left) / 2, y: height - 4, "text-anchor": "middle" }, label));
    const legend = known.length > 1 ? make("ul", { class: "legend" }, known.map((name) => {
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = xraycam.colourOf(names, name);
      return make("li", {}, swatch, name);
    })) : null;
    const rows = totals.map((total, bin) => [range(low, high, bins, bin), ...known.map((name) => xraycam.number(series[name][bin]))]);
    return [legend, svg, make("details", {}, make("summary", {}, "Numbers"), xraycam.table(`Histogram: ${label}`, [label, ...known], rows))];
  }

  function range(low, high, bins, bin) {
    const digits = high > 10 ? 0 : 2;
    const at = (place) => (low + ((high - low) * place) / bins).toFixed(digits);
    return `${at(bin)} to ${at(bin + 1)}`;
  }

  function modelCard(model) {
    const head = [make("p", {}, [model.source, model.created ? `made ${model.created}` : null].filter(Boolean).join("; "))];
    if (model.digest) head.push(make("p", { class: "hash" }, `SHA-256 of its model.json: ${model.digest}`));
    if (model.missing) head.push(make("p", { class: "missing" }, model.missing));
    else if (!model.sections.length) head.push(make("p", { class: "missing" }, "Nothing was measured of this version, or its record is gone: do not trust its maps unmeasured."));
    return make(
      "section", { class: "card model" }, make("h2", {}, `Model ${model.version}`), head,
      model.sections.map((section) => make("section", {}, make("h3", {}, section.title), make("p", {}, section.text),
        xraycam.table(section.title, section.head, section.rows)))
    );
  }

  function made(facts) {
    const run = facts.run;
    const rows = [["folder", run.root], ["overlays", run.output], ["opened", run.created], ["state", run.state],
      ...(facts.made ? [["report made", facts.made]] : []),
      ...Object.entries(facts.software)];
    return card("How it was made",
      make("p", {}, "The command that asks for what this run was asked for:"),
      make("pre", { tabindex: "0", "aria-label": "Command" }, make("code", {}, facts.command)),
      make("p", {}, "Versions are those where this page was made."),
      xraycam.table("Run and versions", ["what", "value"], rows));
  }
})(window.xraycam);
