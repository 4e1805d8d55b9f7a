// The rows of a run from the server, page by page.
"use strict";

(function (xraycam) {
  class ServerSource {
    constructor() {
      this.live = true;
      this.base = `/api/run/${location.pathname.split("/")[2]}`;
      this.review = true;
    }

    async ask(path, options) {
      const answer = await fetch(this.base + path, options);
      if (!answer.ok) throw new Error((await answer.text()) || `the server answered ${answer.status}`);
      return answer;
    }

    async facts() {
      for (;;) {
        const answer = await this.ask("");
        if (answer.status !== 202) {
          const facts = await answer.json();
          this.token = facts.token;
          this.reader = facts.reader;
          this.total = facts.images.done + facts.images.failed;
          facts.left_out = facts.images.pending ? `${xraycam.images(facts.images.pending)} without a result yet` : "";
          return facts;
        }
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }

    sorts(facts) {
      const score = facts.counts.scores.some(Boolean) ? [["-score", "Score, highest first"], ["score", "Score, lowest first"]] : [];
      return [...score, ["id", "Order of the run"], ["-probability", "Probability of the predicted class"],
        ["probability", "Least certain first"], ["-corner", "Heat in corners"]];
    }

    choices() {
      return [["reviewed", "My review", [["", "Any"], ["no", "Not yet"], ["yes", "Reviewed"], ["agree", "Agree"], ["disagree", "Disagree"], ["unsure", "Unsure"]]]];
    }

    async open(query) {
      const opened = { rows: [], total: null, isComplete: false, after: "" };
      opened.more = async () => {
        const asked = new URLSearchParams(query);
        if (opened.after) asked.set("after", opened.after);
        const page = await (await this.ask(`/rows?${asked}`)).json();
        opened.rows.push(...page.rows);
        opened.after = page.after;
        if (page.after === null) {
          opened.isComplete = true;
          opened.total = opened.rows.length;
        }
      };
      // Of what is rare, the first pages may be empty.
      do await opened.more(); while (!opened.isComplete && !opened.rows.length);
      return opened;
    }

    all() {
      return this.total;
    }

    picture(row, kind) {
      if (row.status !== "done" || (kind === "original" && row.strip)) return undefined;
      return `${this.base}/${kind}/large/${row.id}?of=${row.mark}`;
    }

    thumbnail(row) {
      return row.status === "done" ? `${this.base}/overlay/small/${row.id}?of=${row.mark}` : undefined;
    }

    missing() {
      return "";
    }

    async save(row, review) {
      const headers = { "content-type": "application/json", "x-xraycam-token": this.token };
      const path = `/review/${row.id}`;
      if (review) await this.ask(path, { method: "PUT", headers, body: JSON.stringify({ ...review, seen: row.mark }) });
      else await this.ask(path, { method: "DELETE", headers });
    }
  }

  xraycam.makeSource = () => new ServerSource();
})(window.xraycam);
