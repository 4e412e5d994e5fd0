// What every page uses: the list of models, the line of what is happening, problems in words.

import { type Model, Refused, model as whole, models as list, ref } from "./api";
import { markdown } from "./card";
import { byId, h } from "./dom";
import { meaning } from "./scores";

/** Said to those who listen; shown by the pages themselves. */
export function say(words: string): void {
  byId("said").textContent = words;
}

export function problem(fault: unknown): void {
  const box = byId("problem");
  if (fault === null) return box.replaceChildren();
  if (fault instanceof DOMException && fault.name === "AbortError") return;
  const refused = fault instanceof Refused ? fault : new Refused(0, "", "the page cannot go on with this");
  if (!(fault instanceof Refused)) console.error(fault);
  const head = refused.status ? `${refused.detail}.` : `${refused.detail}.`;
  box.replaceChildren(
    h(
      "div",
      { class: "problem" },
      h("p", {}, h("strong", {}, capital(head)), refused.advice ? ` ${refused.advice}` : ""),
      refused.places.length > 0 && h("ul", {}, ...refused.places.slice(0, 8).map((one) => h("li", {}, one))),
      refused.requestId && h("p", { class: "note" }, `Request ${refused.requestId}`),
      h("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: () => problem(null) }, "✕"),
    ),
  );
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1).replace(/\.+$/, ".");
}

/** Run what a person asked for: its button waits, problems are shown. */
export async function doing(button: HTMLButtonElement | null, words: string, work: () => Promise<void>): Promise<void> {
  problem(null);
  say(words);
  button?.setAttribute("aria-busy", "true");
  if (button) button.disabled = true;
  try {
    await work();
  } catch (fault) {
    problem(fault);
    say("");
  } finally {
    button?.removeAttribute("aria-busy");
    if (button) button.disabled = false;
  }
}

let known: Promise<Model[]> | null = null;

/** All models, asked for once; again after `forget`. */
export function models(): Promise<Model[]> {
  known ??= list().catch((fault: unknown) => {
    known = null;
    throw fault;
  });
  return known;
}

export function forget(): void {
  known = null;
}

/** A choice of the models that read one kind of thing, with what their scores mean and their card. */
export class ModelChoice {
  readonly select: HTMLSelectElement;
  readonly panel = h("section", { class: "panel model", "aria-label": "Model" });
  onchange: () => void = () => {};
  private offered: Model[] = [];

  constructor(private readonly reads: Model["reads"], id: string) {
    this.select = h("select", { id, onchange: () => this.changed() });
  }

  get model(): Model | null {
    return this.offered[this.select.selectedIndex] ?? null;
  }

  async load(): Promise<void> {
    const every = await models();
    this.offered = every.filter((one) => one.reads === this.reads && !one.shadow);
    this.select.replaceChildren(
      ...this.offered.map((one) => h("option", { value: ref(one) }, `${one.name} ${one.version}${one.aliases.length ? ` (${one.aliases.join(", ")})` : ""}`)),
    );
    const first = this.offered.findIndex((one) => one.default);
    if (first >= 0) this.select.selectedIndex = first;
    this.describe();
  }

  private changed(): void {
    this.describe();
    this.onchange();
  }

  private describe(): void {
    const model = this.model;
    if (model === null) return this.panel.replaceChildren(h("p", { class: "note" }, `No model here reads ${this.reads}.`));
    const card = h("details", { class: "card" }, h("summary", {}, "Model card"));
    card.addEventListener("toggle", () => {
      if (!card.open || card.childElementCount > 1) return;
      void doing(null, "", async () => {
        const text = (await whole(ref(model))).card;
        card.append(h("div", { class: "markdown" }, text ? markdown(text) : h("p", { class: "note" }, "The package has no card: it was not evaluated.")));
      });
    });
    this.panel.replaceChildren(
      h("h2", {}, "What the scores mean"),
      meaning(model),
      h("p", { class: "note" }, "Package ", h("code", {}, model.package)),
      card,
    );
  }
}

/** A field with its label. */
export function field(label: string, control: HTMLElement): HTMLElement {
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control);
}
