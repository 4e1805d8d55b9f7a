// All runs, workers and trainings, looked at again every few seconds.
"use strict";

(function (xraycam) {
  const make = xraycam.make;
  const EVERY = 3000;

  async function show() {
    try {
      const answer = await fetch("/api/overview");
      if (!answer.ok) throw new Error(await answer.text());
      const found = await answer.json();
      put("runs", "Runs", ["run", "folder", "state", "images", "explained", "failed", "opened"], found.runs.map((run) => [
        make("a", { href: `/run/${run.id}/` }, `Run ${run.id}`), run.root, run.state,
        xraycam.number(run.images), xraycam.number(run.done), xraycam.number(run.failed), run.created,
      ]), "No run yet: xraycam run FOLDER");
      put("workers", "Workers", ["worker", "device", "model", "activity", "error"], found.workers.map((one) => [
        one.name, one.device, one.model || "", one.live ? one.activity || "waiting" : "silent", one.error || "",
      ]), "No worker is running.");
      put("trainings", "Trainings", ["training", "folder", "state", "epoch", "validation AUC"], found.trainings.map((one) => [
        `Training ${one.id}`, one.dataset, [one.state, one.stage].filter(Boolean).join(", "), `${one.epoch} of at most ${one.epochs}`,
        one.auc === null ? "" : one.auc.toFixed(3),
      ]), "No training yet.");
      xraycam.notify("");
    } catch (error) {
      xraycam.notify(`No answer: ${error.message}`);
    }
    document.body.dataset.ready = "true";
    setTimeout(show, EVERY);
  }

  function put(id, title, head, rows, none) {
    const place = xraycam.byId(id);
    if (place.contains(document.activeElement)) return;
    xraycam.replace(place, make("h2", {}, title), rows.length ? xraycam.table(title, head, rows) : make("p", {}, none));
  }

  document.addEventListener("DOMContentLoaded", show);
})(window.xraycam);
