/**
 * A classifier that `residual export` has written, computed in a browser by ONNX Runtime Web.
 *
 *     const classifier = await Classifier.open("model/");
 *     const [best] = await classifier.classify(await readPhoto(file));
 *     console.log(best.label, best.probability);
 */
import * as ort from "onnxruntime-web";

// More than one thread needs a page that is served with the headers Cross-Origin-Opener-Policy and
// Cross-Origin-Embedder-Policy.
ort.env.wasm.numThreads = 1;

export class Classifier {
  #folder;
  #sessions = new Map();

  /**
   * Read an exported folder and open the file that takes photos, where there is one.
   *
   * @param {string} address Address of the folder, relative to the page.
   * @returns {Promise<Classifier>}
   */
  static async open(address) {
    const folder = new URL(address.replace(/\/*$/, "/"), document.baseURI);
    const [config, signature] = await Promise.all(
      ["config.json", "signature.json"].map(async (name) => (await fetched(folder, name)).json()),
    );
    const classifier = new Classifier(folder, config.label_names, signature);
    if (signature.image_input.file) {
      await classifier.#session(signature.image_input.file);
    }
    return classifier;
  }

  constructor(folder, labels, signature) {
    this.#folder = folder;
    this.labels = labels;
    this.signature = signature;
  }

  /**
   * Classify a photo of any size; resize, crop and normalization are part of the file.
   *
   * @param {{data: Uint8Array, width: number, height: number}} photo RGB, upright, row by row.
   * @param {number} count Number of classes.
   * @returns {Promise<{label: string, probability: number}[]>} The most probable class first.
   */
  async classify({ data, width, height }, count = 5) {
    const image = new ort.Tensor("uint8", data, [height, width, 3]);
    const probabilities = await this.#run(this.signature.image_input.file, { image });
    return this.labels
      .map((label, index) => ({ label, probability: probabilities[index] }))
      .sort((one, other) => other.probability - one.probability)
      .slice(0, count);
  }

  /**
   * Compute the probabilities of views, which are resized and cut as the contract of the signature says.
   *
   * @param {Uint8Array} pixels Views one after the other, (batch, side, side, channels).
   * @returns {Promise<Float32Array>} (batch, classes)
   */
  async probabilities(pixels) {
    const [, ...view] = this.signature.inputs[0].shape;
    const batch = pixels.length / view.reduce((product, length) => product * length);
    return this.#run(this.signature.file, { pixels: new ort.Tensor("uint8", pixels, [batch, ...view]) });
  }

  async #run(file, inputs) {
    const session = await this.#session(file);
    const { probabilities } = await session.run(inputs, ["probabilities"]);
    return probabilities.data;
  }

  #session(file) {
    if (!this.#sessions.has(file)) {
      this.#sessions.set(file, openSession(this.#folder, file));
    }
    return this.#sessions.get(file);
  }
}

/**
 * Decode an image file as Residual does: upright, transparent pixels over white, without colour profile.
 *
 * @param {Blob} file
 * @returns {Promise<{data: Uint8Array, width: number, height: number}>} RGB, row by row.
 */
export async function readPhoto(file) {
  const bitmap = await createImageBitmap(file, {
    imageOrientation: "from-image",
    colorSpaceConversion: "none",
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return { data, width, height };
}

async function openSession(folder, file) {
  const bytes = await (await fetched(folder, file)).arrayBuffer();
  return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
}

async function fetched(folder, name) {
  const address = new URL(name, folder);
  // A cached file is asked for again, since another export may have come to its place.
  const response = await fetch(address, { cache: "no-cache" });
  if (!response.ok) {
    throw new Error(`${address} cannot be read: ${response.status} ${response.statusText}`);
  }
  return response;
}
