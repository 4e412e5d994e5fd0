// A scan: files in, the picture, what a model says of it, where it looked.

import { type Answer, type Model, type Prediction, Refused, display, explain, form, predict, ref } from "./api";
import { ModelChoice, doing, field, problem, say } from "./common";
import { byId, h, number, plural, share, svg } from "./dom";
import { type Heat, type Volume, gunzipped, read } from "./nifti";
import { isShare, reason, refusedBox, scoreRow } from "./scores";
import { Stage, type View, whole } from "./stage";

// Centre and width in HU, as they are in use.
const CT_WINDOWS: [string, number, number][] = [
  ["Brain", 40, 80],
  ["Soft tissue", 50, 400],
  ["Lung", -600, 1500],
  ["Bone", 400, 1800],
  ["Liver", 60, 150],
];

export function scanPage(): { element: HTMLElement; enter: () => void } {
  const page = new ScanPage();
  return { element: page.element, enter: () => void page.enter() };
}

class ScanPage {
  readonly element: HTMLElement;
  private readonly choice = new ModelChoice("images", "scan-model");
  private readonly stage = new Stage();
  private readonly results = h("section", { class: "panel results", "aria-label": "Scores" });
  private readonly files = h("input", { type: "file", id: "scan-files", multiple: true, class: "hidden" });
  private readonly slice = h("input", { type: "range", id: "slice", min: 1, max: 1, value: 1, step: 1 });
  private readonly where = h("output", { for: "slice", class: "figure" });
  private readonly centre = h("input", { type: "number", id: "centre", step: "any" });
  private readonly width = h("input", { type: "number", id: "width", step: "any", min: 0 });
  private readonly presets = h("select", { id: "preset" });
  private readonly opacity = h("input", { type: "range", id: "opacity", min: 0, max: 100, value: 60 });
  private readonly target = h("select", { id: "heat-target" });
  private readonly look = h("button", { type: "button", id: "explain" }, "Show where it looked");
  private readonly facts = h("p", { class: "note", id: "facts" });
  private readonly empty: HTMLElement;
  private parts: File[] = [];
  private answer: Answer | null = null;
  private volume: Volume | null = null;
  private maps = new Map<number, Heat>();
  private asked = 0;

  constructor() {
    const pick = h("button", { type: "button", class: "primary", id: "pick", onclick: () => this.files.click() }, "Choose files");
    this.empty = h(
      "div",
      { class: "drop" },
      h("p", { class: "big" }, "Drop a scan here"),
      h("p", { class: "note" }, "DICOM, PNG or JPEG; a whole series as files, a folder or a ZIP"),
      pick,
    );
    this.stage.element.classList.add("idle");
    const frame = h("div", { class: "viewport" }, this.empty, this.stage.element);
    this.element = h(
      "div",
      { class: "scan" },
      h("h1", { class: "hidden" }, "Scan"),
      h(
        "div",
        { class: "toolbar", role: "toolbar", "aria-label": "Scan" },
        field("Model", this.choice.select),
        h("button", { type: "button", id: "open", onclick: () => this.files.click() }, "Open…"),
        this.files,
      ),
      h("div", { class: "viewing" }, frame, this.controls()),
      h("div", { class: "side" }, this.results, this.choice.panel),
      h("p", { id: "stage-help", class: "hidden" }, "Arrow keys change the picture, plus and minus zoom, W A S D move, brackets and comma and full stop change the window, zero resets."),
    );
    this.say0();
    this.wire(frame);
  }

  async enter(): Promise<void> {
    await doing(null, "", () => this.choice.load());
    requestIdleCallback(() => void this.stage.warm().catch(problem));
  }

  private controls(): HTMLElement {
    return h(
      "div",
      { class: "controls", role: "group", "aria-label": "Picture" },
      h("div", { class: "field wide" }, h("label", { for: "slice" }, "Slice"), this.slice, this.where),
      field("Centre", this.centre),
      field("Width", this.width),
      field("Window", this.presets),
      h("button", { type: "button", id: "reset", onclick: () => this.stage.reset() }, "Reset"),
      h("div", { class: "field heat" }, h("label", { for: "heat-target" }, "Heat map of"), this.target),
      this.look,
      h("div", { class: "field" }, h("label", { for: "opacity" }, "Opacity"), this.opacity),
      this.facts,
    );
  }

  private wire(frame: HTMLElement): void {
    this.files.addEventListener("change", () => {
      const found = [...(this.files.files ?? [])];
      this.files.value = "";
      if (found.length) void this.open(found);
    });
    for (const name of ["dragover", "dragleave", "drop"] as const)
      this.element.addEventListener(name, (event) => {
        event.preventDefault();
        frame.classList.toggle("over", name === "dragover");
        if (name === "drop" && event.dataTransfer) void this.take(event.dataTransfer);
      });
    this.choice.onchange = () => void this.score();
    this.slice.addEventListener("input", () => this.stage.setSlice(Number(this.slice.value) - 1));
    const window = () => {
      const [centre, width] = [Number(this.centre.value), Number(this.width.value)];
      if (Number.isFinite(centre) && width > 0) this.stage.setWindow(centre, width);
    };
    this.centre.addEventListener("change", window);
    this.width.addEventListener("change", window);
    this.presets.addEventListener("change", () => this.preset());
    this.opacity.addEventListener("input", () => this.stage.setOpacity(Number(this.opacity.value) / 100));
    this.target.addEventListener("change", () => void this.unlook());
    this.look.addEventListener("click", () => void (this.maps.has(this.stage.view.slice) ? this.unlook() : this.explained()));
    this.stage.onchange = (view) => this.viewed(view);
    this.enable(false);
  }

  private enable(on: boolean): void {
    const colour = this.volume?.facts.colour ?? true;
    for (const one of [this.slice, byButton(this.element, "reset")]) one.disabled = !on;
    for (const one of [this.centre, this.width, this.presets]) one.disabled = !on || colour;
    for (const one of [this.look, this.target, this.opacity]) one.disabled = !on || this.answer === null;
  }

  // ---------------------------------------------------------------- a scan comes

  private async take(transfer: DataTransfer): Promise<void> {
    const found = await dropped(transfer);
    if (found.length) await this.open(found);
  }

  async open(files: File[]): Promise<void> {
    this.parts = files.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    this.blank();
    const mine = ++this.asked;
    await doing(null, "Reading the scan", async () => {
      this.results.setAttribute("aria-busy", "true");
      try {
        if (this.choice.model === null) await this.choice.load();
        await Promise.all([this.display(mine), this.scored(mine)]);
      } finally {
        if (mine === this.asked) this.results.removeAttribute("aria-busy");
      }
    });
  }

  /** Nothing of the scan before may stand beside what is said of this one. */
  private blank(): void {
    this.answer = null;
    this.volume = null;
    this.maps.clear();
    this.stage.clear();
    this.stage.element.classList.add("idle");
    delete this.stage.element.dataset["shown"];
    this.empty.hidden = false;
    this.facts.textContent = "";
    this.enable(false);
    this.say0();
  }

  private async display(mine: number): Promise<void> {
    const model = this.choice.model;
    const response = await display(model ? ref(model) : "", form(this.parts));
    const volume = read(await gunzipped(response));
    if (mine !== this.asked) return;
    this.empty.hidden = true;
    this.stage.element.classList.remove("idle");
    this.volume = volume;
    this.slice.max = String(volume.frames);
    this.presets.replaceChildren(
      ...(volume.facts.window ? [h("option", { value: "file" }, "As the file says")] : []),
      h("option", { value: "whole" }, "Whole range"),
      ...(volume.facts.modality === "CT" ? CT_WINDOWS.map(([name]) => h("option", { value: name }, name)) : []),
      h("option", { value: "own", disabled: true, hidden: true }, "Own"),
    );
    await this.stage.show(volume);
    this.facts.textContent = this.describe(volume);
    this.enable(true);
    this.stage.element.dataset["shown"] = String(Math.round(performance.now()));
    this.stage.element.focus({ preventScroll: true });
    say(`${plural(volume.frames, "picture")} shown`);
  }

  private describe(volume: Volume): string {
    const { facts } = volume;
    const spacing = facts.spacing_mm.slice(0, volume.frames > 1 ? 3 : 2);
    const words = [`${volume.columns} × ${volume.rows}`];
    if (facts.modality) words.unshift(facts.modality);
    words.push(
      spacing.every((one) => one !== null) ? `${spacing.map((one) => number(one as number, 3)).join(" × ")} mm` : "distances unknown",
    );
    if (!facts.placed) words.push("position in the patient unknown: no sides are shown");
    if (!facts.even) words.push("slices are not equally far apart");
    if (this.stage.shrink > 1) words.push(`drawn at 1/${this.stage.shrink} of its resolution`);
    if (facts.refused.length) words.push(`${plural(facts.refused.length, "file")} without a picture`);
    return words.join(" · ");
  }

  private async score(): Promise<void> {
    if (this.parts.length === 0) return;
    await this.open(this.parts);
  }

  private async scored(mine: number): Promise<void> {
    const model = this.choice.model;
    if (model === null) return;
    const answer = await predict(ref(model), form(this.parts));
    if (mine !== this.asked) return;
    this.answer = answer;
    this.target.replaceChildren(
      h("option", { value: "" }, "highest score"),
      ...model.targets.map((one) => h("option", { value: one.name }, one.name)),
    );
    this.enable(this.volume !== null);
    this.showScores(model);
    say("Scored");
  }

  // ---------------------------------------------------------------- what is said

  private say0(): void {
    this.results.replaceChildren(h("h2", {}, "Scores"), h("p", { class: "note" }, "Of a scan, when there is one."));
  }

  private showScores(model: Model): void {
    const answer = this.answer;
    if (answer === null) return this.say0();
    const slice = this.stage.volume ? this.stage.view.slice : 0;
    const here = this.predictionAt(slice);
    const refused = answer.predictions.filter((one) => one.status === "rejected");
    const several = answer.predictions.length > 1;
    this.results.replaceChildren(
      h("h2", {}, several && this.volume ? `Scores of picture ${slice + 1}` : "Scores"),
      here === null
        ? h("p", { class: "note" }, "The model has no answer of its own for this picture.")
        : here.status === "rejected"
          ? refusedBox(here)
          : h("div", {}, ...here.scores.map((one) => scoreRow(model, one))),
      ...(several && this.volume !== null ? strip(model, answer, this.volume, slice, (to) => this.stage.setSlice(to)) : []),
      ...(refused.length > 0 && several ? [refusals(refused)] : []),
      h("p", { class: "note" }, `Request ${answer.request_id}`),
    );
  }

  private predictionAt(slice: number): Prediction | null {
    const answer = this.answer;
    if (answer === null) return null;
    const [part, frame] = this.volume?.facts.slices[slice] ?? [0, 0];
    return (
      answer.predictions.find((one) => one.part === part && one.frame === frame) ??
      answer.predictions.find((one) => one.part === part) ??
      null
    );
  }

  private viewed(view: View): void {
    const volume = this.volume;
    if (volume === null) return;
    this.slice.value = String(view.slice + 1);
    this.where.textContent = `${view.slice + 1} / ${volume.frames}`;
    if (document.activeElement !== this.centre) this.centre.value = String(round(view.centre));
    if (document.activeElement !== this.width) this.width.value = String(round(view.width));
    this.presets.value = this.presetOf(view);
    const model = this.choice.model;
    if (model !== null && this.answer !== null) this.showScores(model);
    this.label();
  }

  private presetOf(view: View): string {
    const facts = this.volume?.facts;
    const alike = (centre: number, width: number) => Math.abs(centre - view.centre) < 0.01 && Math.abs(width - view.width) < 0.01;
    if (facts?.window && alike(...facts.window)) return "file";
    const named = facts?.modality === "CT" ? CT_WINDOWS.find(([, centre, width]) => alike(centre, width)) : undefined;
    if (named) return named[0];
    return facts && alike(...whole(facts.range)) ? "whole" : "own";
  }

  private preset(): void {
    const facts = this.volume?.facts;
    const named = CT_WINDOWS.find(([name]) => name === this.presets.value);
    if (named) this.stage.setWindow(named[1], named[2]);
    else if (this.presets.value === "file" && facts?.window) this.stage.setWindow(...facts.window);
    else if (this.presets.value === "whole" && facts) this.stage.setWindow(...whole(facts.range));
  }

  // ---------------------------------------------------------------- where it looked

  private label(): void {
    this.look.textContent = this.maps.has(this.stage.view.slice) ? "Hide where it looked" : "Show where it looked";
    this.look.setAttribute("aria-pressed", String(this.maps.has(this.stage.view.slice)));
  }

  private async unlook(): Promise<void> {
    this.maps.clear();
    await this.stage.heat([]);
    this.label();
  }

  /** Of the file that is shown; of a ZIP, of all that is in it. */
  private async explained(): Promise<void> {
    const [model, volume] = [this.choice.model, this.volume];
    if (model === null || volume === null) return;
    const [part] = volume.facts.slices[this.stage.view.slice] ?? [0, 0];
    const single = this.parts[part];
    const alone = single !== undefined && volume.facts.slices.every(([one]) => one < this.parts.length) && !isZip(this.parts);
    await doing(this.look, "Asking where it looked", async () => {
      const found = await explain(ref(model), this.target.value, form(alone ? [single] : this.parts));
      for (const one of found.explanations) {
        const at = volume.facts.slices.findIndex(([p, f]) => p === (alone ? part : one.part) && f === one.frame);
        if (at >= 0 && one.heatmap !== undefined) this.maps.set(at, await heatOf(at, one.heatmap));
      }
      if (!this.maps.has(this.stage.view.slice)) throw new Refused(422, "not-explained", "the model does not explain this picture");
      await this.stage.heat([...this.maps.values()]);
      this.label();
      say("The heat map is shown");
    });
  }
}

function byButton(element: HTMLElement, id: string): HTMLButtonElement {
  return element.querySelector<HTMLButtonElement>(`#${id}`) ?? byId<HTMLButtonElement>(id);
}

function round(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(4));
}

function isZip(files: readonly File[]): boolean {
  return files.some((one) => /\.zip$/i.test(one.name) || one.type === "application/zip");
}

function refusals(refused: Prediction[]): HTMLElement {
  return h(
    "details",
    { class: "refusals" },
    h("summary", {}, `${plural(refused.length, "file or picture", "files or pictures")} not scored`),
    h("ul", {}, ...refused.slice(0, 200).map((one) => h("li", {}, `File ${(one.part ?? 0) + 1}: ${reason(one.reason)}`))),
  );
}

/** A score along the slices, to be clicked; nothing where there is none. */
function strip(model: Model, answer: Answer, volume: Volume, slice: number, go: (slice: number) => void): Element[] {
  const first = answer.predictions.find((one) => one.status === "ok")?.scores[0];
  if (first === undefined || !isShare(model, first)) return [];
  const points: [number, number][] = [];
  volume.facts.slices.forEach(([part, frame], at) => {
    const found = answer.predictions.find((one) => one.part === part && one.frame === frame);
    const score = found?.scores.find((one) => one.target === first.target && one.text_value === first.text_value);
    if (score !== undefined) points.push([at, score.score]);
  });
  if (points.length < 2) return [];
  const x = (at: number) => (100 * (at + 0.5)) / volume.frames;
  const y = (value: number) => 38 - 36 * value;
  const name = first.text_value === null ? first.target : `${first.target}: ${first.text_value}`;
  const chart = svg(
    "svg",
    { class: "strip", viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": `${name} along the pictures, greatest ${share(Math.max(...points.map((p) => p[1])))}` },
    first.threshold !== null && svg("line", { class: "threshold", x1: 0, x2: 100, y1: y(first.threshold), y2: y(first.threshold) }),
    svg("line", { class: "here", x1: x(slice), x2: x(slice), y1: 0, y2: 40 }),
    svg("polyline", { class: "curve", points: points.map(([at, value]) => `${x(at)},${y(value)}`).join(" ") }),
  );
  chart.addEventListener("click", (event) => {
    const box = chart.getBoundingClientRect();
    go(Math.floor((volume.frames * (event.clientX - box.left)) / box.width));
  });
  const best = points.reduce((a, b) => (b[1] > a[1] ? b : a))[0];
  const jump = h("button", { type: "button", class: "link", onclick: () => go(best) }, `greatest: picture ${best + 1}`);
  return [h("figure", { class: "along" }, h("figcaption", {}, `${name} along the pictures`, jump), chart)];
}

async function heatOf(slice: number, base64: string): Promise<Heat> {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("no canvas");
  context.drawImage(bitmap, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return { slice, width, height, values: Uint8Array.from({ length: width * height }, (_, at) => data[4 * at]!) };
}

/** Files that were dropped, those in folders among them. */
async function dropped(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((one) => one != null);
  if (entries.length === 0) return [...transfer.files];
  const found: File[] = [];
  const walk = async (entry: FileSystemEntry): Promise<void> => {
    if (entry.isFile) found.push(await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail)));
    else {
      const reader = (entry as FileSystemDirectoryEntry).createReader();
      for (;;) {
        const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
        if (some.length === 0) break;
        for (const one of some) await walk(one);
      }
    }
  };
  try {
    for (const entry of entries) await walk(entry);
  } catch (fault) {
    problem(fault);
  }
  return found;
}
