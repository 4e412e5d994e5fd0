// The frame of the page: which part is shown, access, shortcuts.

import { token } from "./api";
import { forget, problem } from "./common";
import { byId, h } from "./dom";
import { moleculePage } from "./molecule";
import { scanPage } from "./scan";
import { timelinePage } from "./timeline";
import { worklistPage } from "./worklist";

interface Page {
  element: HTMLElement;
  enter: () => void;
}

const PAGES: Record<string, [string, () => Page]> = {
  scan: ["Scan", scanPage],
  worklist: ["Worklist", worklistPage],
  timeline: ["Timeline", timelinePage],
  molecule: ["Molecule", moleculePage],
};
const KEYS: [string, string][] = [
  ["1 2 3 4", "Scan, Worklist, Timeline, Molecule"],
  ["o", "Open files"],
  ["?", "These shortcuts"],
  ["On the picture", ""],
  ["↑ ↓", "Previous, next slice; Page Up, Page Down: ten"],
  ["Home End", "First, last slice"],
  ["+ −", "Zoom"],
  ["W A S D", "Move"],
  ["[ ]", "Narrower, wider window"],
  [", .", "Lower, higher window"],
  ["0", "Reset"],
  ["With a mouse", "Drag: window. Shift or right button: move. Wheel: slices, with Ctrl: zoom"],
];

const made = new Map<string, Page>();

function name(): string {
  const asked = location.hash.slice(1);
  return asked in PAGES ? asked : "scan";
}

function show(): void {
  if (location.hash === "#main") return;
  const chosen = name();
  const [title, make] = PAGES[chosen]!;
  const page = made.get(chosen) ?? make();
  made.set(chosen, page);
  problem(null);
  document.title = `${title} · medray`;
  for (const link of byId("pages").querySelectorAll("a"))
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  byId("main").replaceChildren(page.element);
  page.enter();
}

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.matches("input:not([type=range]), textarea, select") || target.isContentEditable);
}

function access(): void {
  const dialog = byId<HTMLDialogElement>("access");
  const input = byId<HTMLInputElement>("token");
  byId("access-button").addEventListener("click", () => {
    input.value = token.get();
    dialog.showModal();
  });
  byId("access-form").addEventListener("submit", () => {
    token.set(input.value.trim());
    input.value = "";
    forget();
    show();
  });
  byId("access-forget").addEventListener("click", () => {
    token.set("");
    input.value = "";
    forget();
    dialog.close();
  });
}

function shortcuts(): void {
  const dialog = byId<HTMLDialogElement>("keys");
  byId("keys-list").append(
    ...KEYS.flatMap(([keys, words]) =>
      words ? [h("dt", {}, ...keys.split(" ").flatMap((one) => (keys.startsWith("With") ? [one, " "] : [h("kbd", {}, one), " "]))), h("dd", {}, words)] : [h("dt", { class: "head" }, keys), h("dd", { class: "head" })],
    ),
  );
  byId("keys-button").addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
    const page = Object.keys(PAGES)[Number(event.key) - 1];
    if (event.key === "?") dialog.showModal();
    else if (event.key === "o") document.getElementById("scan-files")?.click();
    else if (page !== undefined) location.hash = page;
    else return;
    event.preventDefault();
  });
}

byId("pages").append(...Object.entries(PAGES).map(([id, [title]]) => h("a", { href: `#${id}` }, title)));
access();
shortcuts();
addEventListener("hashchange", show);
show();
