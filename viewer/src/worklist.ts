// What was scored: a table to filter, sort and leaf through.

import { type WorklistPage, type WorklistRow, worklist } from "./api";
import { doing, field, say } from "./common";
import { h, number, plural, share } from "./dom";
import { reason } from "./scores";

const COLUMNS: [string, string][] = [
  ["study", "Study"],
  ["target", "Finding"],
  ["score", "Score"],
  ["decision", "Decision"],
  ["items", "Items"],
  ["model", "Model"],
  ["time", "Time (UTC)"],
];
const LIMIT = 50;

export function worklistPage(): { element: HTMLElement; enter: () => void } {
  const page = new Worklist();
  return { element: page.element, enter: () => void page.load() };
}

class Worklist {
  readonly element: HTMLElement;
  private readonly from = h("input", { type: "date", id: "from" });
  private readonly to = h("input", { type: "date", id: "to" });
  private readonly model = h("select", { id: "list-model" }, h("option", { value: "" }, "all"));
  private readonly target = h("select", { id: "list-target" }, h("option", { value: "" }, "all"));
  private readonly decision = h(
    "select",
    { id: "list-decision" },
    ...["", "positive", "negative", "undecided", "rejected"].map((one) => h("option", { value: one }, one || "all")),
  );
  private readonly table = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Scored studies" });
  private readonly count = h("p", { class: "note", id: "count", "aria-live": "polite" });
  private readonly before = h("button", { type: "button", id: "before", onclick: () => this.leaf(-LIMIT) }, "Previous");
  private readonly after = h("button", { type: "button", id: "after", onclick: () => this.leaf(LIMIT) }, "Next");
  private sort = "score";
  private order: "asc" | "desc" = "desc";
  private offset = 0;
  private newest: string | null = null;

  constructor() {
    const latest = h("button", { type: "button", id: "latest", onclick: () => this.latest() }, "Latest day");
    for (const one of [this.from, this.to, this.model, this.target, this.decision])
      one.addEventListener("change", () => {
        this.offset = 0;
        void this.load();
      });
    this.element = h(
      "div",
      { class: "worklist" },
      h("h1", {}, "Worklist"),
      h(
        "div",
        { class: "toolbar", role: "search", "aria-label": "Filter" },
        field("From", this.from),
        field("To", this.to),
        latest,
        field("Model", this.model),
        field("Finding", this.target),
        field("Decision", this.decision),
      ),
      this.table,
      h("div", { class: "row spread" }, this.count, h("div", { class: "row" }, this.before, this.after)),
    );
  }

  async load(): Promise<void> {
    await doing(null, "Loading the worklist", async () => {
      const query = new URLSearchParams({ sort: this.sort, order: this.order, limit: String(LIMIT), offset: String(this.offset) });
      const filters = { from: this.from, to: this.to, model: this.model, target: this.target, decision: this.decision };
      for (const [name, control] of Object.entries(filters)) if (control.value) query.set(name, control.value);
      this.show(await worklist(query));
    });
  }

  private latest(): void {
    if (this.newest === null) return;
    this.from.value = this.to.value = this.newest;
    this.offset = 0;
    void this.load();
  }

  private leaf(by: number): void {
    this.offset = Math.max(0, this.offset + by);
    void this.load();
  }

  private sortBy(name: string): void {
    this.order = this.sort === name && this.order === "desc" ? "asc" : "desc";
    this.sort = name;
    this.offset = 0;
    void this.load().then(() => this.table.querySelector<HTMLElement>(`[data-sort="${name}"]`)?.focus());
  }

  private show(page: WorklistPage): void {
    this.newest = page.newest;
    offer(this.model, page.models);
    offer(this.target, page.targets);
    const last = Math.min(page.offset + page.rows.length, page.total);
    this.count.textContent = page.total ? `${page.offset + 1}–${last} of ${plural(page.total, "line")}` : "";
    this.before.disabled = page.offset === 0;
    this.after.disabled = last >= page.total;
    say(this.count.textContent);
    if (page.total === 0) {
      const filtered = [this.from, this.to, this.model, this.target, this.decision].some((one) => one.value);
      const words = filtered ? "Nothing was scored that fits this." : "Nothing was scored yet, or no table of predictions is configured for this page.";
      return this.table.replaceChildren(h("p", { class: "empty" }, words));
    }
    this.table.replaceChildren(
      h(
        "table",
        {},
        h("caption", { class: "hidden" }, "Scored studies"),
        h("thead", {}, h("tr", {}, ...COLUMNS.map(([name, words]) => this.head(name, words)))),
        h("tbody", {}, ...page.rows.map(line)),
      ),
    );
  }

  private head(name: string, words: string): HTMLElement {
    const mine = this.sort === name;
    const sorted = mine ? (this.order === "asc" ? "ascending" : "descending") : "none";
    const mark = mine ? (this.order === "asc" ? " ▲" : " ▼") : "";
    return h(
      "th",
      { scope: "col", "aria-sort": sorted, class: name },
      h("button", { type: "button", class: "sort", "data-sort": name, onclick: () => this.sortBy(name) }, words, h("span", { "aria-hidden": "true" }, mark)),
    );
  }
}

function line(row: WorklistRow): HTMLElement {
  const study = row.study_id ?? "";
  const probability = row.score !== null && row.score >= 0 && row.score <= 1;
  const said = row.status !== "ok" ? reason(row.reason) || row.status : row.decision === null ? "–" : row.decision ? "positive" : "negative";
  return h(
    "tr",
    { class: row.status === "ok" ? null : "rejected" },
    h("td", { class: "study" }, h("code", { title: study }, study.slice(0, 12))),
    h("td", {}, row.target === null ? "–" : row.text_value === null ? row.target : `${row.target}: ${row.text_value}`),
    h("td", { class: "score" }, row.score === null ? "–" : probability ? share(row.score) : number(row.score)),
    h("td", {}, h("span", { class: row.decision ? "verdict positive" : "verdict" }, said)),
    h("td", { class: "items" }, String(row.items)),
    h("td", {}, h("code", {}, row.package.split("#")[0] ?? "")),
    h("td", { class: "time" }, row.prediction_time === null ? "–" : row.prediction_time.slice(0, 16).replace("T", " ")),
  );
}

function offer(select: HTMLSelectElement, names: string[]): void {
  const chosen = select.value;
  select.replaceChildren(h("option", { value: "" }, "all"), ...names.map((one) => h("option", { value: one }, one)));
  select.value = names.includes(chosen) ? chosen : "";
}
