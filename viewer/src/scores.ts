// Scores as people read them: a bar with its threshold, a decision, or the reason of a refusal.

import type { Model, Prediction, Score, Target } from "./api";
import { h, number, plural, share, svg } from "./dom";

const NO_SHARE = new Set(["value", "quantiles"]);

export const REASONS: Record<string, string> = {
  empty_file: "the file is empty",
  not_dicom: "neither DICOM nor PNG nor JPEG",
  truncated: "the file is cut off",
  not_an_image: "no picture in it",
  derived_object: "made from other pictures, not a scan",
  no_pixel_data: "a header without pixels",
  duplicate_instance: "sent twice",
  no_history: "nothing before the time of the prediction that the model reads",
  no_structure: "not a molecule",
};

export function reason(code: string | null): string {
  return code === null ? "" : (REASONS[code] ?? code.replaceAll("_", " "));
}

/** The target that a score belongs to: of survival, scores are named after their causes. */
export function targetOf(model: Model, score: Score): Target | undefined {
  return (
    model.targets.find((one) => one.name === score.target) ??
    model.targets.find((one) => score.target.startsWith(one.name) || one.classes.some((name) => score.target.startsWith(name)))
  );
}

export function isShare(model: Model, score: Score): boolean {
  const kind = targetOf(model, score)?.kind;
  return kind === undefined ? score.score >= 0 && score.score <= 1 : !NO_SHARE.has(kind);
}

export function scoreRow(model: Model, score: Score): HTMLElement {
  const name = score.text_value === null ? score.target : `${score.target}: ${score.text_value}`;
  const probability = isShare(model, score);
  return h(
    "div",
    { class: "score", "data-target": score.target },
    h("div", { class: "row spread" }, h("span", { class: "name" }, name), verdict(model, score)),
    h(
      "div",
      { class: "row" },
      probability ? bar(score, name) : null,
      h("output", { class: "figure" }, probability ? share(score.score) : number(score.score)),
    ),
  );
}

function bar(score: Score, name: string): Element {
  const said = score.threshold === null ? "" : `, threshold ${share(score.threshold)}`;
  return svg(
    "svg",
    { class: "bar", viewBox: "0 0 100 14", preserveAspectRatio: "none", role: "img", "aria-label": `${name} ${share(score.score)}${said}` },
    svg("rect", { class: "track", x: 0, y: 4, width: 100, height: 6, rx: 1 }),
    svg("rect", { class: score.decision ? "fill positive" : "fill", x: 0, y: 4, width: 100 * score.score, height: 6, rx: 1 }),
    score.threshold !== null &&
      svg("rect", { class: "threshold", x: Math.min(99.4, Math.max(0, 100 * score.threshold - 0.3)), y: 0, width: 0.6, height: 14 }),
  );
}

function verdict(model: Model, score: Score): Element {
  const kind = targetOf(model, score)?.kind;
  if (score.decision === null) return h("span", { class: "verdict" }, kind === "survival" ? "risk" : "value");
  if (kind === "domain") return h("span", { class: "verdict" }, score.decision ? "inside the domain" : "outside the domain");
  const words = score.text_value !== null ? ["chosen", ""] : ["positive", "negative"];
  const at = score.threshold === null ? "" : ` at ${share(score.threshold)}`;
  const said = score.decision ? words[0]! : words[1]!;
  return h("span", { class: score.decision ? "verdict positive" : "verdict" }, said && said + at);
}

/** What the scores of a model mean, from what was learned on its tuning data. */
export function meaning(model: Model): HTMLElement {
  const lines = model.targets.map((target) => {
    const fitted = target.calibrated_on
      ? `calibrated on ${plural(target.calibrated_on, "tuning item")}`
      : `not calibrated${target.note ? `: ${target.note}` : ""}`;
    const at =
      target.threshold === null ? "" : target.kind === "domain"
        ? `; inside at or above ${share(target.threshold)}`
        : `; positive at or above ${share(target.threshold)}`;
    const kind: Record<string, string> = {
      binary: "a probability",
      multiclass: "a probability for each class; the greatest is chosen",
      survival: "the risk up to a time",
      quantiles: "values between which the outcome is expected",
      value: "a value",
      domain: "similarity to what the model has learned from",
    };
    return h("li", {}, h("strong", {}, target.name), ` ${kind[target.kind] ?? target.kind}, ${fitted}${at}.`);
  });
  return h("ul", { class: "meaning" }, ...lines);
}

export function refusedBox(one: Prediction): HTMLElement {
  return h(
    "p",
    { class: "refused" },
    h("strong", {}, "Not scored: "),
    reason(one.reason),
    one.detail ? ` (${one.detail})` : "",
    h("code", {}, one.reason ?? ""),
  );
}
