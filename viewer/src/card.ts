// A model card's Markdown → elements: headings, lists, tables, code and bold. Never HTML.

import { h } from "./dom";

export function markdown(text: string): DocumentFragment {
  const out = document.createDocumentFragment();
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) {
    const line = lines[at]!;
    const heading = /^(#{1,4}) (.*)$/.exec(line);
    if (heading !== null) {
      const level = Math.min(6, heading[1]!.length + 2) as 3 | 4 | 5 | 6;
      out.append(h(`h${level}`, {}, ...inline(heading[2]!)));
      at++;
    } else if (line.startsWith("|")) {
      const rows: string[] = [];
      while (lines[at]?.startsWith("|")) rows.push(lines[at++]!);
      out.append(table(rows));
    } else if (/^[-*] /.test(line)) {
      const list = h("ul");
      while (/^[-*] /.test(lines[at] ?? "")) list.append(h("li", {}, ...inline(lines[at++]!.slice(2))));
      out.append(list);
    } else if (line.trim()) {
      const words: string[] = [];
      while (lines[at]?.trim() && !/^(#|\||[-*] )/.test(lines[at]!)) words.push(lines[at++]!);
      if (words.length === 0) words.push(lines[at++]!);
      out.append(h("p", {}, ...inline(words.join(" "))));
    } else at++;
  }
  return out;
}

function table(rows: string[]): HTMLElement {
  const cells = rows
    .filter((row) => !/^\|[\s:|-]+\|$/.test(row))
    .map((row) => row.replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim()));
  const [head = [], ...body] = cells;
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ...head.map((cell) => h("th", { scope: "col" }, ...inline(cell))))),
      h("tbody", {}, ...body.map((row) => h("tr", {}, ...row.map((cell) => h("td", {}, ...inline(cell)))))),
    ),
  );
}

function inline(text: string): (Node | string)[] {
  return text
    .split(/(\*\*[^*]+\*\*|`[^`]+`)/)
    .filter(Boolean)
    .map((part) =>
      part.startsWith("**") ? h("strong", {}, part.slice(2, -2)) : part.startsWith("`") ? h("code", {}, part.slice(1, -1)) : part,
    );
}
