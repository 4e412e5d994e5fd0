// What the page asks its server, and how refusals are said. The token stays in this tab's memory
// (sessionStorage) and travels in a header only.

export interface Target {
  name: string;
  kind: string;
  classes: string[];
  threshold: number | null;
  calibrated_on?: number;
  note?: string;
}

export interface Model {
  name: string;
  version: string;
  package: string;
  aliases: string[];
  default: boolean;
  shadow: boolean;
  workload: string;
  reads: "images" | "records" | "molecules";
  targets: Target[];
  card?: string | null;
}

export interface Score {
  target: string;
  text_value: string | null;
  score: number;
  decision: boolean | null;
  threshold: number | null;
}

export interface Prediction {
  part?: number;
  frame?: number | null;
  subject?: number;
  smiles?: string | null;
  item_id: string;
  prediction_time?: string | null;
  status: "ok" | "rejected";
  reason: string | null;
  detail: string;
  scores: Score[];
}

export interface Answer {
  request_id: string;
  package: string;
  predictions: Prediction[];
  events?: number;
  refused?: Record<string, number>;
  unknown_codes?: Record<string, number>;
}

export interface EventPart {
  hours_before: number | null;
  code: string;
  text_value: string | null;
  numeric_value: number | null;
  unit: string | null;
  contribution: number;
}

export interface Explanation {
  // of a picture
  part?: number;
  frame?: number;
  heatmap?: string;
  // of a patient's events
  subject?: number;
  score?: number;
  empty?: number;
  timing?: number;
  answer?: number;
  unread?: number;
  events?: EventPart[];
  // of a molecule
  smiles?: string;
  atoms?: number[];
  target: string;
}

export interface Explained {
  explanations: Explanation[];
  drawings?: Record<string, string>;
}

export interface WorklistRow {
  subject_id: string | null;
  study_id: string | null;
  package: string;
  target: string | null;
  text_value: string | null;
  score: number | null;
  decision: boolean | null;
  items: number;
  prediction_time: string | null;
  status: string;
  reason: string | null;
}

export interface WorklistPage {
  total: number;
  offset: number;
  limit: number;
  newest: string | null;
  models: string[];
  targets: string[];
  rows: WorklistRow[];
}

const KEY = "medray.token";

export const token = {
  get: (): string => sessionStorage.getItem(KEY) ?? "",
  set: (value: string): void => {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  },
};

/** A refusal in words: an RFC 9457 document, or no answer at all. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly kind: string,
    readonly detail: string,
    readonly places: string[] = [],
    readonly requestId = "",
  ) {
    super(detail);
  }

  get advice(): string {
    if (this.status === 401) return "Give an access token under Access.";
    if (this.status === 403) return "The token does not allow this.";
    if (this.status === 429) return "Too many requests at once: try again in a moment.";
    if (this.status === 503 || this.status === 504) return "The model is not answering yet: try again in a moment.";
    return "";
  }
}

async function refusal(response: Response): Promise<Refused> {
  const requestId = response.headers.get("X-Request-Id") ?? "";
  try {
    const told = (await response.json()) as {
      type?: string;
      detail?: string;
      title?: string;
      errors?: { pointer?: string; detail?: string }[];
    };
    const kind = (told.type ?? "").split(":").pop() ?? "";
    const places = (told.errors ?? []).map((one) => `${one.pointer ?? ""} ${one.detail ?? ""}`.trim());
    return new Refused(response.status, kind, told.detail ?? told.title ?? "refused", places, requestId);
  } catch {
    return new Refused(response.status, "", `the server answered ${response.status}`, [], requestId);
  }
}

/** Ask. Throws Refused. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token.get()) headers.set("Authorization", `Bearer ${token.get()}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers, credentials: "omit", redirect: "error" });
  } catch (fault) {
    if (fault instanceof DOMException && fault.name === "AbortError") throw fault;
    throw new Refused(0, "no-answer", "the server does not answer");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function json<T>(path: string, init: RequestInit = {}): Promise<T> {
  return (await ask(path, init)).json() as Promise<T>;
}

export function ref(model: Model): string {
  return `${model.name}@${model.version}`;
}

export const models = async (): Promise<Model[]> => (await json<{ models: Model[] }>("/v1/models")).models;
export const model = (name: string): Promise<Model> => json(`/v1/models/${name}`);

export const predict = (name: string, body: BodyInit, type?: string): Promise<Answer> =>
  json(`/v1/models/${name}/predict`, posted(body, type));

export const explain = (name: string, target: string, body: BodyInit, type?: string): Promise<Explained> =>
  json(`/v1/models/${name}/explain${target ? `?target=${encodeURIComponent(target)}` : ""}`, posted(body, type));

export const display = (name: string, body: BodyInit): Promise<Response> =>
  ask(`/v1/display${name ? `?ref=${encodeURIComponent(name)}` : ""}`, posted(body));

export const worklist = (query: URLSearchParams): Promise<WorklistPage> => json(`/v1/worklist?${query}`);

function posted(body: BodyInit, type?: string): RequestInit {
  return { method: "POST", body, headers: type ? { "Content-Type": type } : {} };
}

/** Files as one request; names are not sent: they may hold a patient's. */
export function form(files: readonly Blob[]): FormData {
  const data = new FormData();
  files.forEach((file, number) => data.append("file", file, String(number)));
  return data;
}
