// The picture: NiiVue draws, this decides what. Everything a mouse can do, a key can.

import { NVImage, Niivue, SLICE_TYPE } from "@niivue/niivue";

import { h, number } from "./dom";
import { type Heat, type Volume, overlaid, shrunk } from "./nifti";

const ZOOMS: [number, number] = [0.5, 16];

/** Window of the whole range of values. */
export function whole(range: readonly [number, number]): [number, number] {
  return [(range[0] + range[1] + 1) / 2, Math.max(range[1] - range[0] + 1, 1)];
}

function usual(volume: Volume): [number, number] {
  return volume.facts.window ?? whole(volume.facts.range);
}

/** What is shown black and white: centre - 0.5 ± (width - 1) / 2 (PS3.3 C.11.2.1.2.1). */
function ends(centre: number, width: number): [number, number] {
  return width > 2 ? [centre - width / 2, centre - 1 + width / 2] : [centre - width / 2, centre + width / 2];
}

export interface View {
  slice: number;
  centre: number;
  width: number;
  zoom: number;
}

export class Stage {
  readonly element: HTMLElement;
  onchange: (view: View) => void = () => {};
  volume: Volume | null = null;
  /** By how much pixels were averaged to fit the graphics processor. */
  shrink = 1;

  private readonly canvas = h("canvas", { "aria-hidden": "true" });
  private readonly edges = ["left", "right", "top", "bottom"].map((name) =>
    h("span", { class: `edge ${name}`, "aria-hidden": "true" }),
  );
  private readonly niivue = new Niivue({
    interactive: false,
    dragAndDropEnabled: false,
    isResizeCanvas: true,
    isRadiologicalConvention: true,
    isOrientationTextVisible: false,
    isSliceMM: true,
    crosshairWidth: 0,
    backColor: [0, 0, 0, 1],
    loadingText: "",
    logLevel: "error",
    sliceType: SLICE_TYPE.AXIAL,
    isColorbar: false,
  });
  private ready: Promise<unknown> | null = null;
  private shown: Volume | null = null;
  private overlay: NVImage | null = null;
  private opacity = 0.6;
  private slice = 0;
  private window: [number, number] = [0, 1];
  private pan: [number, number] = [0, 0];
  private zoom = 1;
  private frame = 0;

  constructor() {
    this.element = h(
      "div",
      {
        class: "stage",
        tabindex: 0,
        role: "application",
        "aria-label": "Picture",
        "aria-roledescription": "picture viewer",
        "aria-describedby": "stage-help",
      },
      this.canvas,
      ...this.edges,
    );
    this.listen();
  }

  /** Get the graphics ready: shaders take longer to compile than a picture to draw. */
  warm(): Promise<unknown> {
    this.ready ??= this.niivue.attachToCanvas(this.canvas, false).then(() => (this.element.dataset["ready"] = ""));
    return this.ready;
  }

  async show(volume: Volume): Promise<void> {
    await this.warm();
    const most = this.niivue.uiData.max3D;
    const { volume: fitted, factor } = shrunk(volume, most || 2048);
    this.clear();
    const image = await NVImage.loadFromUrl({
      url: "volume.nii",
      name: "volume.nii",
      buffer: fitted.buffer,
      trustCalMinMax: true,
    });
    [image.cal_min, image.cal_max] = volume.facts.colour ? [0, 255] : ends(...usual(volume));
    image.colormapInvert = volume.facts.invert;
    this.niivue.addVolume(image);
    this.volume = volume;
    this.shown = fitted;
    this.shrink = factor;
    const named = volume.edges;
    this.edges.forEach((edge, at) => (edge.textContent = named[at] ?? ""));
    this.slice = Math.floor((volume.frames - 1) / 2);
    this.reset();
  }

  clear(): void {
    for (const image of [...this.niivue.volumes].reverse()) this.niivue.removeVolume(image);
    this.overlay = null;
    this.volume = null;
  }

  /** Lay heat maps over the picture; none: take them away. */
  async heat(maps: readonly Heat[]): Promise<void> {
    if (this.overlay !== null) this.niivue.removeVolume(this.overlay);
    this.overlay = null;
    if (this.volume === null || this.shown === null || maps.length === 0) return this.draw();
    // The field of view is that of all pixels, also where fewer are drawn.
    const image = await NVImage.loadFromUrl({
      url: "heat.nii",
      name: "heat.nii",
      buffer: overlaid(this.volume, maps),
      opacity: this.opacity,
    });
    this.niivue.addVolume(image);
    this.overlay = image;
    this.draw();
  }

  get hasHeat(): boolean {
    return this.overlay !== null;
  }

  setOpacity(value: number): void {
    this.opacity = value;
    if (this.overlay !== null) this.niivue.setOpacity(this.niivue.volumes.indexOf(this.overlay), value);
  }

  setWindow(centre: number, width: number): void {
    const volume = this.volume;
    if (volume === null || volume.facts.colour) return;
    const whole = volume.facts.range[1] - volume.facts.range[0] || 1;
    this.window = [centre, Math.max(width, whole / 10_000)];
    const image = this.niivue.volumes[0];
    const [low, high] = ends(...this.window);
    if (image !== undefined && (image.cal_min !== low || image.cal_max !== high)) {
      [image.cal_min, image.cal_max] = [low, high];
      this.niivue.updateGLVolume();
    }
    this.told();
  }

  setSlice(slice: number): void {
    const volume = this.volume;
    if (volume === null) return;
    this.slice = Math.min(volume.frames - 1, Math.max(0, Math.round(slice)));
    this.draw();
    this.told();
  }

  setZoom(zoom: number): void {
    this.zoom = Math.min(ZOOMS[1], Math.max(ZOOMS[0], zoom));
    if (this.zoom <= 1) this.pan = [0, 0];
    this.draw();
    this.told();
  }

  move(right: number, down: number): void {
    const volume = this.volume;
    if (volume === null) return;
    const perPixel = this.mmPerPixel(volume);
    this.pan = [this.pan[0] + right * perPixel, this.pan[1] + down * perPixel];
    this.draw();
    this.told();
  }

  /** Window as the file says, else the whole range; all of the picture. */
  reset(): void {
    const volume = this.volume;
    if (volume === null) return;
    this.zoom = 1;
    this.pan = [0, 0];
    this.setSlice(this.slice);
    this.setWindow(...usual(volume));
  }

  get view(): View {
    return { slice: this.slice, centre: this.window[0], width: this.window[1], zoom: this.zoom };
  }

  private mmPerPixel(volume: Volume): number {
    const { clientWidth, clientHeight } = this.element;
    const [wide, high] = [volume.columns * volume.spacing[0], volume.rows * volume.spacing[1]];
    return Math.max(wide / (clientWidth || 1), high / (clientHeight || 1)) / this.zoom;
  }

  private draw(): void {
    const volume = this.volume;
    if (volume === null || this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const scene = this.niivue.scene;
      scene.crosshairPos = [0.5, 0.5, (this.slice + 0.5) / volume.frames];
      // The centre stays where it is while the picture grows: NiiVue zooms about the origin.
      const middle = [
        (-(volume.columns - 1) * volume.spacing[0]) / 2,
        (-(volume.rows - 1) * volume.spacing[1]) / 2,
      ];
      const off = this.zoom - 1;
      scene.pan2Dxyzmm = [
        -this.pan[0] * this.zoom - off * middle[0]!,
        -this.pan[1] * this.zoom - off * middle[1]!,
        0,
        this.zoom,
      ];
      this.niivue.drawScene();
    });
  }

  private told(): void {
    const volume = this.volume;
    if (volume === null) return;
    const colour = volume.facts.colour ? "" : `, window centre ${number(this.window[0])}, width ${number(this.window[1])}`;
    this.element.setAttribute(
      "aria-label",
      `Picture ${this.slice + 1} of ${volume.frames}${colour}, zoom ${number(this.zoom, 3)}`,
    );
    this.onchange(this.view);
  }

  // ---------------------------------------------------------------- mouse, touch, keys

  private listen(): void {
    const pointers = new Map<number, PointerEvent>();
    this.element.addEventListener("pointerdown", (event) => {
      if (this.volume === null) return;
      this.element.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
    });
    const leave = (event: PointerEvent) => void pointers.delete(event.pointerId);
    this.element.addEventListener("pointerup", leave);
    this.element.addEventListener("pointercancel", leave);
    this.element.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (before === undefined) return;
      pointers.set(event.pointerId, event);
      this.dragged(before, event, [...pointers.values()]);
    });
    this.element.addEventListener("contextmenu", (event) => event.preventDefault());
    this.element.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    this.element.addEventListener("keydown", (event) => {
      if (this.key(event)) event.preventDefault();
    });
  }

  private dragged(before: PointerEvent, now: PointerEvent, all: PointerEvent[]): void {
    const [right, down] = [now.clientX - before.clientX, now.clientY - before.clientY];
    const other = all.find((one) => one.pointerId !== now.pointerId);
    if (other !== undefined) {
      const apart = (one: PointerEvent) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      this.setZoom((this.zoom * apart(now)) / (apart(before) || 1));
    } else if (now.buttons !== 1 || now.shiftKey) {
      this.move(right, down);
    } else {
      const scale = this.window[1] / 300;
      this.setWindow(this.window[0] + down * scale, this.window[1] + right * scale);
    }
  }

  private wheeled(event: WheelEvent): void {
    if (this.volume === null) return;
    event.preventDefault();
    if (event.ctrlKey || this.volume.frames === 1) this.setZoom(this.zoom * Math.exp(-event.deltaY / 400));
    else this.setSlice(this.slice + Math.sign(event.deltaY));
  }

  private key(event: KeyboardEvent): boolean {
    const volume = this.volume;
    if (volume === null || event.ctrlKey || event.metaKey || event.altKey) return false;
    const { centre, width } = this.view;
    const step = width / 20;
    const moves: Record<string, () => void> = {
      ArrowUp: () => this.setSlice(this.slice - 1),
      ArrowDown: () => this.setSlice(this.slice + 1),
      PageUp: () => this.setSlice(this.slice - 10),
      PageDown: () => this.setSlice(this.slice + 10),
      Home: () => this.setSlice(0),
      End: () => this.setSlice(volume.frames - 1),
      "+": () => this.setZoom(this.zoom * 1.25),
      "=": () => this.setZoom(this.zoom * 1.25),
      "-": () => this.setZoom(this.zoom / 1.25),
      w: () => this.move(0, 20),
      s: () => this.move(0, -20),
      a: () => this.move(20, 0),
      d: () => this.move(-20, 0),
      "[": () => this.setWindow(centre, width - step),
      "]": () => this.setWindow(centre, width + step),
      ",": () => this.setWindow(centre - step, width),
      ".": () => this.setWindow(centre + step, width),
      "0": () => this.reset(),
    };
    const move = moves[event.key];
    move?.();
    return move !== undefined;
  }
}
