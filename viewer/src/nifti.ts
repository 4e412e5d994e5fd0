// The server's volume, and heat maps in its frame. NIfTI-1, little endian, one 3D block.
//
// Pictures are always shown as they were taken: the affine that is drawn with has rows and columns
// only; where they lie in the patient is told by letters at the edges.

export interface Facts {
  frames: number;
  window: [number, number] | null;
  range: [number, number];
  spacing_mm: (number | null)[];
  placed: boolean;
  even: boolean;
  invert: boolean;
  colour: boolean;
  modality: string | null;
  seen: { size: [number, number]; box: [number, number, number, number] } | null;
  refused: { part: number; reason: string }[];
  slices: [number, number][];
}

export interface Volume {
  facts: Facts;
  columns: number;
  rows: number;
  frames: number;
  /** mm between columns, rows, slices; 1 where unknown. */
  spacing: [number, number, number];
  /** Letters at the left, right, top, bottom edge; empty where unknown. */
  edges: [string, string, string, string];
  /** Stored values of a slice; of colour, red, green and blue in turn. */
  values: Int16Array | Float32Array | Uint8Array;
  buffer: ArrayBuffer;
}

const HEADER = 348;
const COMMENT = 6;
const RGB24 = 128;
const INT16 = 4;
const RGBA32 = 2304;

export async function gunzipped(response: Response): Promise<ArrayBuffer> {
  const packed = await response.blob();
  return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

export function read(buffer: ArrayBuffer): Volume {
  const view = new DataView(buffer);
  const dim = (axis: number) => view.getInt16(40 + 2 * axis, true);
  const [columns, rows, frames] = [dim(1), dim(2), Math.max(1, dim(3))];
  const start = view.getFloat32(108, true);
  const kind = view.getInt16(70, true);
  const count = columns * rows * frames;
  const facts = JSON.parse(comment(view, start)) as Facts;
  const axes = [0, 1, 2].map((column) => [0, 1, 2].map((row) => view.getFloat32(280 + 16 * row + 4 * column, true)));
  const spacing = axes.map((axis) => Math.hypot(...axis) || 1) as [number, number, number];
  const values =
    kind === INT16
      ? new Int16Array(buffer, start, count)
      : kind === RGB24
        ? new Uint8Array(buffer, start, 3 * count)
        : new Float32Array(buffer, start, count);
  const [across, down] = [letters(axes[0]!), letters(axes[1]!)];
  const edges: Volume["edges"] = facts.placed ? [across[1], across[0], down[1], down[0]] : ["", "", "", ""];
  upright(view, spacing, [0, 0]);
  return { facts, columns, rows, frames, spacing, edges, values, buffer };
}

function comment(view: DataView, end: number): string {
  for (let at = 352; view.getUint8(348) === 1 && at + 8 <= end; ) {
    const size = view.getInt32(at, true);
    if (size < 8) break;
    if (view.getInt32(at + 4, true) === COMMENT) {
      const bytes = new Uint8Array(view.buffer, at + 8, size - 8);
      return new TextDecoder().decode(bytes).replace(/\0+$/, "");
    }
    at += size;
  }
  throw new Error("the volume does not say what it shows");
}

/** Where an axis points to and comes from, strongest first: "L" and "R", "AL" and "PR". */
function letters(axis: number[]): [string, string] {
  const names = ["RL", "AP", "SI"]; // RAS: positive first
  const length = Math.hypot(...axis) || 1;
  const parts = axis
    .map((value, at) => ({ value: value / length, pair: names[at]! }))
    .filter((part) => Math.abs(part.value) > 0.2)
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value))
    .map((part) => (part.value > 0 ? [part.pair[0], part.pair[1]] : [part.pair[1], part.pair[0]]));
  return [parts.map((pair) => pair[0]).join(""), parts.map((pair) => pair[1]).join("")];
}

/** Write an affine that shows columns to the right and rows downwards; offset: of the first pixel, mm. */
function upright(view: DataView, spacing: readonly number[], offset: readonly [number, number]): void {
  view.setInt16(252, 0, true); // qform_code
  view.setInt16(254, 2, true); // sform_code
  const affine = [
    [-spacing[0]!, 0, 0, -offset[0]],
    [0, -spacing[1]!, 0, -offset[1]],
    [0, 0, spacing[2]!, 0],
  ];
  affine.flat().forEach((value, at) => view.setFloat32(280 + 4 * at, value, true));
}

/** A block of average values for a picture larger than the graphics processor takes. */
export function shrunk(volume: Volume, most: number): { volume: Volume; factor: number } {
  const factor = Math.ceil(Math.max(volume.columns, volume.rows) / most);
  if (factor <= 1) return { volume, factor: 1 };
  const channels = volume.facts.colour ? 3 : 1;
  const [columns, rows] = [Math.floor(volume.columns / factor), Math.floor(volume.rows / factor)];
  const size = columns * rows * volume.frames * channels;
  const values = volume.facts.colour
    ? new Uint8Array(size)
    : volume.values instanceof Int16Array
      ? new Int16Array(size)
      : new Float32Array(size);
  let at = 0;
  for (let z = 0; z < volume.frames; z++)
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++)
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          for (let j = 0; j < factor; j++)
            for (let i = 0; i < factor; i++) {
              const place = (z * volume.rows + y * factor + j) * volume.columns + x * factor + i;
              sum += volume.values[place * channels + c]!;
            }
          values[at++] = Math.round(sum / (factor * factor));
        }
  const spacing: Volume["spacing"] = [volume.spacing[0] * factor, volume.spacing[1] * factor, volume.spacing[2]];
  const kind = volume.facts.colour ? RGB24 : values instanceof Int16Array ? INT16 : 16;
  const offset: [number, number] = [
    (volume.spacing[0] * (factor - 1)) / 2,
    (volume.spacing[1] * (factor - 1)) / 2,
  ];
  const buffer = file([columns, rows, volume.frames], spacing, offset, kind, new Uint8Array(values.buffer));
  return { volume: { ...volume, columns, rows, spacing, values, buffer }, factor };
}

export interface Heat {
  slice: number;
  /** (h,w) as the model saw it, 0 to 255. */
  values: Uint8Array;
  width: number;
  height: number;
}

// Lightness rises from black over violet and orange to pale yellow: reads without colour vision.
const STOPS: readonly (readonly [number, number, number])[] = [
  [0, 0, 0],
  [45, 17, 84],
  [123, 34, 116],
  [199, 69, 86],
  [243, 128, 57],
  [250, 193, 88],
  [253, 248, 210],
];

/** The colour of 0 to 255. */
function colour(heat: number): [number, number, number] {
  const place = (heat / 255) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  const mixed = (channel: 0 | 1 | 2) =>
    Math.round(STOPS[low]![channel] + (place - low) * (STOPS[low + 1]![channel] - STOPS[low]![channel]));
  return [mixed(0), mixed(1), mixed(2)];
}

/**
 * Heat maps as a volume over another one: same field of view to the edge of its pixels, of each map
 * only the box that the picture fills. The more heat, the less of the picture shows through.
 */
export function overlaid(volume: Volume, maps: readonly Heat[]): ArrayBuffer {
  const first = maps[0];
  if (first === undefined) throw new Error("no heat map");
  const [top, left, height, width] = boxOf(volume, first);
  const values = new Uint8Array(4 * width * height * volume.frames);
  for (const map of maps)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const heat = map.values[(top + y) * map.width + left + x]!;
        values.set([...colour(heat), heat], 4 * ((map.slice * height + y) * width + x));
      }
  const spacing: Volume["spacing"] = [
    (volume.spacing[0] * volume.columns) / width,
    (volume.spacing[1] * volume.rows) / height,
    volume.spacing[2],
  ];
  const offset: [number, number] = [(spacing[0] - volume.spacing[0]) / 2, (spacing[1] - volume.spacing[1]) / 2];
  return file([width, height, volume.frames], spacing, offset, RGBA32, values);
}

function boxOf(volume: Volume, map: Heat): [number, number, number, number] {
  const seen = volume.facts.seen;
  if (seen === null || seen.size[0] !== map.height || seen.size[1] !== map.width)
    return [0, 0, map.height, map.width];
  return seen.box;
}

function file(
  shape: readonly number[],
  spacing: readonly number[],
  offset: readonly [number, number],
  kind: number,
  values: Uint8Array,
): ArrayBuffer {
  const buffer = new ArrayBuffer(HEADER + 4 + values.length);
  const view = new DataView(buffer);
  view.setInt32(0, HEADER, true);
  [3, ...shape, 1, 1, 1, 1].forEach((value, at) => view.setInt16(40 + 2 * at, value, true));
  view.setInt16(70, kind, true);
  view.setInt16(72, kind === RGB24 ? 24 : kind === INT16 ? 16 : 32, true);
  [1, ...spacing].forEach((value, at) => view.setFloat32(76 + 4 * at, value, true));
  view.setFloat32(108, HEADER + 4, true);
  view.setFloat32(112, 1, true);
  view.setUint8(123, 2); // mm
  upright(view, spacing, offset);
  new Uint8Array(buffer, 344, 4).set([0x6e, 0x2b, 0x31, 0]); // "n+1"
  new Uint8Array(buffer, HEADER + 4).set(values);
  return buffer;
}
