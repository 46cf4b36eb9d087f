// Messages of the data channel: a MessagePack integer that says the kind, then at most one
// MessagePack value. Only the forms that these messages need are written; all integers are read.

export const Kind = Object.freeze({
  PING: 1,
  PONG: 2,
  SDP: 3,
  LOSS_RATE: 4,
  ROUND_TRIP_TIME: 5,
  JITTER: 6,
  LOCK: 7,
  UNLOCK: 8,
  MEDIA_MAP: 9,
});

/** Bytes of a message; `value` is a number, a Uint8Array, or nothing. */
export function encode(kind, value) {
  if (value === undefined) return Uint8Array.of(kind);
  if (value instanceof Uint8Array) return Uint8Array.of(kind, ...binaryHeader(value.length), ...value);
  // As encoders in JavaScript do: a loss of 0 is the integer 0, one of 0.5 is a float.
  if (Number.isInteger(value) && value >= 0 && value < 128) return Uint8Array.of(kind, value);
  const bytes = new Uint8Array(10);
  bytes.set([kind, 0xcb]);
  new DataView(bytes.buffer).setFloat64(2, value);
  return bytes;
}

function binaryHeader(length) {
  if (length < 0x100) return [0xc4, length];
  if (length < 0x10000) return [0xc5, length >> 8, length & 0xff];
  throw new Error(`a description of ${length} bytes is longer than one message may be here`);
}

/** The kind and value of a message; the value is undefined where there is none. */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const kind = reader.read();
  return { kind, value: reader.atEnd() ? undefined : reader.read() };
}

class Reader {
  #bytes;
  #view;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  atEnd() {
    return this.#at === this.#bytes.length;
  }

  read() {
    const form = this.#unsigned(1);
    if (form < 0x80) return form;
    if (form < 0x90) return this.#map(form & 0x0f);
    if (form >= 0xa0 && form < 0xc0) return this.#text(form & 0x1f);
    if (form >= 0xe0) return form - 0x100;
    switch (form) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.#take(this.#unsigned(1));
      case 0xc5: return this.#take(this.#unsigned(2));
      case 0xc6: return this.#take(this.#unsigned(4));
      case 0xca: return this.#view.getFloat32(this.#advance(4));
      case 0xcb: return this.#view.getFloat64(this.#advance(8));
      case 0xcc: return this.#unsigned(1);
      case 0xcd: return this.#unsigned(2);
      case 0xce: return this.#unsigned(4);
      case 0xcf: return Number(this.#view.getBigUint64(this.#advance(8)));
      case 0xd0: return this.#view.getInt8(this.#advance(1));
      case 0xd1: return this.#view.getInt16(this.#advance(2));
      case 0xd2: return this.#view.getInt32(this.#advance(4));
      case 0xd3: return Number(this.#view.getBigInt64(this.#advance(8)));
      case 0xd9: return this.#text(this.#unsigned(1));
      case 0xda: return this.#text(this.#unsigned(2));
      case 0xde: return this.#map(this.#unsigned(2));
      default: throw new Error(`no message has a value of the form 0x${form.toString(16)}`);
    }
  }

  #advance(length) {
    const from = this.#at;
    if (from + length > this.#bytes.length) throw new Error("the message ends within a value");
    this.#at += length;
    return from;
  }

  #take(length) {
    const from = this.#advance(length);
    return this.#bytes.subarray(from, from + length);
  }

  #unsigned(length) {
    return this.#take(length).reduce((number, byte) => number * 0x100 + byte, 0);
  }

  #text(length) {
    return new TextDecoder("utf-8", { fatal: true }).decode(this.#take(length));
  }

  #map(pairs) {
    const map = {};
    for (let pair = 0; pair < pairs; pair += 1) {
      const key = this.read();
      map[key] = this.read();
    }
    return map;
  }
}

/** Text as a zlib stream (RFC 1950). */
export function deflate(text) {
  return pass(new TextEncoder().encode(text), new CompressionStream("deflate"));
}

/** The text in a zlib stream. */
export async function inflate(bytes) {
  return new TextDecoder().decode(await pass(bytes, new DecompressionStream("deflate")));
}

async function pass(bytes, transform) {
  const output = new Blob([bytes]).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(output).arrayBuffer());
}
