// Molecules: SMILES in, the structure with what each atom added, and its scores.

import { type Explained, type Prediction, Refused, explain, predict, ref } from "./api";
import { ModelChoice, doing, field, say } from "./common";
import { h, plural } from "./dom";
import { refusedBox, scoreRow } from "./scores";

const JSON_TYPE = "application/json";

export function moleculePage(): { element: HTMLElement; enter: () => void } {
  const choice = new ModelChoice("molecules", "molecule-model");
  const text = h("textarea", { id: "smiles", rows: 5, spellcheck: false, placeholder: "CC(=O)Nc1ccc(O)cc1" });
  const target = h("select", { id: "molecule-target" });
  const out = h("div", { class: "answers" });
  const go = h("button", { type: "button", class: "primary", id: "predict-molecules" }, "Predict");
  const offer = () =>
    target.replaceChildren(
      h("option", { value: "" }, "highest score"),
      ...(choice.model?.targets ?? []).filter((one) => one.kind !== "domain").map((one) => h("option", { value: one.name }, one.name)),
    );
  choice.onchange = offer;
  go.addEventListener("click", () => {
    void doing(go, "Predicting", async () => {
      const model = choice.model;
      if (model === null) throw new Refused(404, "no-such-model", "no model here reads molecules");
      const smiles = text.value.split("\n").map((line) => line.trim()).filter(Boolean);
      if (smiles.length === 0) throw new Refused(422, "nothing-asked", "write a SMILES, one a line");
      const body = JSON.stringify({ smiles });
      const answer = await predict(ref(model), body, JSON_TYPE);
      const show = (told: Explained | null) =>
        out.replaceChildren(...answer.predictions.map((one) => panel(one, told, choice)));
      show(null);
      show(await explain(ref(model), target.value, body, JSON_TYPE));
      say(`${plural(answer.predictions.length, "molecule")} scored`);
    });
  });
  const element = h(
    "div",
    { class: "two" },
    h("h1", { class: "hidden" }, "Molecule"),
    h(
      "section",
      { class: "panel asking", "aria-label": "Molecules" },
      h("h2", {}, "Molecules"),
      field("Model", choice.select),
      h("label", { for: "smiles" }, "SMILES, one a line"),
      text,
      field("Atoms coloured for", target),
      h("div", { class: "row" }, go),
      choice.panel,
    ),
    out,
  );
  return { element, enter: () => void doing(null, "", async () => { await choice.load(); offer(); }) };
}

function panel(one: Prediction, told: Explained | null, choice: ModelChoice): HTMLElement {
  const model = choice.model;
  const smiles = one.smiles ?? null;
  const drawing = smiles === null ? undefined : told?.drawings?.[smiles];
  const target = told?.explanations.find((each) => each.smiles === smiles)?.target;
  return h(
    "section",
    { class: "panel answer molecule", "aria-label": `Molecule ${(one.part ?? 0) + 1}` },
    h("h2", {}, smiles === null ? `Molecule ${(one.part ?? 0) + 1}` : h("code", {}, smiles)),
    drawing !== undefined && picture(drawing, `Structure of ${smiles}, atoms coloured by what they add to ${target}`),
    drawing !== undefined &&
      h(
        "p",
        { class: "legend" },
        h("span", { class: "key adds" }, `atoms that raise ${target}`),
        h("span", { class: "key takes" }, "atoms that lower it"),
      ),
    one.status === "rejected" || model === null ? refusedBox(one) : h("div", {}, ...one.scores.map((score) => scoreRow(model, score))),
  );
}

/** The server's drawing as a picture: its own styles do not reach the page. */
function picture(drawing: string, words: string): HTMLElement {
  const place = URL.createObjectURL(new Blob([drawing], { type: "image/svg+xml" }));
  return h("img", { class: "structure", src: place, alt: words, onload: () => URL.revokeObjectURL(place) });
}
