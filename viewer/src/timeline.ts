// Patients' events: pasted or from a file, what a model predicts from them, and what each one added.

import { type Answer, type EventPart, type Explanation, type Model, Refused, explain, predict, ref } from "./api";
import { ModelChoice, doing, field, say } from "./common";
import { h, number, plural, svg } from "./dom";
import { refusedBox, scoreRow } from "./scores";

const FORM = `{"events": [
  {"subject_id": "a", "time": "2024-05-01T08:00:00", "code": "lactate", "numeric_value": 2.4}
]}`;
const TOP = 14;
const FHIR = "application/fhir+json";
const JSON_TYPE = "application/json";

export function timelinePage(): { element: HTMLElement; enter: () => void } {
  const choice = new ModelChoice("records", "timeline-model");
  const text = h("textarea", { id: "events", rows: 10, spellcheck: false, placeholder: FORM });
  const file = h("input", { type: "file", id: "events-file", accept: ".json,application/json", class: "hidden" });
  const out = h("div", { class: "answers" });
  const go = h("button", { type: "button", class: "primary", id: "predict-events" }, "Predict");
  file.addEventListener("change", () => {
    const one = file.files?.[0];
    file.value = "";
    if (one) void one.text().then((content) => (text.value = content));
  });
  go.addEventListener("click", () => {
    void doing(go, "Predicting", async () => {
      const model = choice.model;
      if (model === null) throw new Refused(404, "no-such-model", "no model here reads records");
      const [body, type] = bodyOf(text.value);
      const answer = await predict(ref(model), body, type);
      showAnswer(out, model, answer, []);
      say("Predicted");
      const told = await explain(ref(model), "", body, type);
      showAnswer(out, model, answer, told.explanations);
    });
  });
  const element = h(
    "div",
    { class: "two" },
    h("h1", { class: "hidden" }, "Timeline"),
    h(
      "section",
      { class: "panel asking", "aria-label": "Events" },
      h("h2", {}, "Events of patients"),
      field("Model", choice.select),
      h("label", { for: "events" }, "Events as JSON (MEDS rows), or a FHIR R4 Bundle"),
      text,
      h(
        "div",
        { class: "row" },
        go,
        h("button", { type: "button", onclick: () => file.click() }, "From a file…"),
        file,
      ),
      choice.panel,
    ),
    out,
  );
  return { element, enter: () => void doing(null, "", () => choice.load()) };
}

/** The body and its media type. Throws Refused for what is no JSON. */
function bodyOf(text: string): [string, string] {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Refused(400, "not-json", "the text is no JSON");
  }
  if (Array.isArray(content)) return [JSON.stringify({ events: content }), JSON_TYPE];
  const bundle = typeof content === "object" && content !== null && "resourceType" in content;
  return [text, bundle ? FHIR : JSON_TYPE];
}

function showAnswer(out: HTMLElement, model: Model, answer: Answer, told: Explanation[]): void {
  const unknown = Object.entries(answer.unknown_codes ?? {});
  const refused = Object.values(answer.refused ?? {}).reduce((a, b) => a + b, 0);
  out.replaceChildren(
    ...answer.predictions.map((one) => {
      const mine = told.find((each) => each.subject === one.subject);
      return h(
        "section",
        { class: "panel answer", "aria-label": `Patient ${(one.subject ?? 0) + 1}` },
        h(
          "h2",
          {},
          `Patient ${(one.subject ?? 0) + 1}`,
          one.prediction_time ? h("span", { class: "note" }, ` up to ${one.prediction_time.slice(0, 16).replace("T", " ")}`) : "",
        ),
        one.status === "rejected" ? refusedBox(one) : h("div", {}, ...one.scores.map((score) => scoreRow(model, score))),
        mine?.events && drawn(mine, mine.events),
      );
    }),
    h(
      "p",
      { class: "note" },
      `${plural(answer.events ?? 0, "event")} read`,
      refused ? `, ${plural(refused, "row")} refused` : "",
      unknown.length ? `; ${plural(unknown.length, "code")} that the model has never seen: ${unknown.slice(0, 6).map(([code]) => code).join(", ")}` : "",
      ".",
    ),
  );
}

/** Contributions on the axis of time, and the greatest as a table. */
function drawn(told: Explanation, events: EventPart[]): HTMLElement {
  const timed = events.filter((one) => one.hours_before !== null);
  const base = (told.empty ?? 0) + (told.timing ?? 0);
  return h(
    "div",
    {},
    h("h3", {}, `What ${told.target} rests on`),
    timed.length > 0 && chart(timed),
    h(
      "p",
      { class: "legend" },
      h("span", { class: "key adds" }, "raises"),
      h("span", { class: "key takes" }, "lowers"),
      h("span", { class: "note" }, `log-odds: ${signed(base)} without any event, ${signed(told.answer ?? 0)} in all`),
    ),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Events by contribution" },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, ...["Event", "Value", "When", "Added (log-odds)"].map((one, at) => h("th", { scope: "col", class: at === 3 && "figure" }, one)))),
        h(
          "tbody",
          {},
          ...events.slice(0, TOP).map((one) =>
            h(
              "tr",
              {},
              h("td", {}, one.code),
              h("td", {}, one.text_value ?? (one.numeric_value === null ? "" : `${number(one.numeric_value)} ${one.unit ?? ""}`)),
              h("td", {}, one.hours_before === null ? "fact" : `${before(one.hours_before)} before`),
              h("td", { class: one.contribution > 0 ? "figure adds" : "figure takes" }, signed(one.contribution)),
            ),
          ),
        ),
      ),
    ),
    events.length > TOP && h("p", { class: "note" }, `and ${plural(events.length - TOP, "event")} of less weight`),
  );
}

function chart(timed: EventPart[]): Element {
  const [wide, high, left, foot] = [640, 220, 44, 30];
  const oldest = Math.max(...timed.map((one) => one.hours_before ?? 0), 1e-9);
  const most = Math.max(...timed.map((one) => Math.abs(one.contribution)), 1e-9);
  const middle = (high - foot) / 2 + 4;
  const x = (hours: number) => left + (wide - left - 16) * (1 - hours / oldest);
  const y = (value: number) => middle - ((middle - 10) * value) / most;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => part * oldest);
  const greatest = timed.slice(0, 3).map((one) => `${one.code} ${signed(one.contribution)}`).join(", ");
  return svg(
    "svg",
    { class: "timeline", viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `Contributions over time; greatest: ${greatest}` },
    ...[-most, 0, most].flatMap((value) => [
      svg("line", { class: value ? "grid" : "axis", x1: left, x2: wide - 16, y1: y(value), y2: y(value) }),
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value ? signed(value) : "0"),
    ]),
    ...ticks.map((hours) => svg("text", { x: x(hours), y: high - 8, "text-anchor": hours === 0 ? "end" : "middle" }, hours === 0 ? "prediction" : `−${before(hours)}`)),
    ...[...timed].reverse().map((one) => {
      const at = x(one.hours_before ?? 0);
      const [top, bottom] = [Math.min(y(one.contribution), middle), Math.max(y(one.contribution), middle)];
      return svg(
        "rect",
        { class: one.contribution > 0 ? "adds" : "takes", x: at - 2.5, y: top, width: 5, height: Math.max(1, bottom - top) },
        svg("title", {}, `${one.code} ${signed(one.contribution)}, ${before(one.hours_before ?? 0)} before`),
      );
    }),
  );
}

function signed(value: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
}

function before(hours: number): string {
  if (hours < 1) return `${Math.round(60 * hours)} min`;
  if (hours < 72) return `${number(hours, 3)} h`;
  return hours < 24 * 800 ? `${number(hours / 24, 3)} days` : `${number(hours / 24 / 365.25, 3)} years`;
}
