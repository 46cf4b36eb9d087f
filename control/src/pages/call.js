// The call page. It joins one call through the native API (docs/api.md), shows who is in it, and
// measures what arrives. Top to bottom: api, connection, measurements, local media, view, start.

// ---------------------------------------------------------------- api

const TOKEN_KEY = "sluice-token";

/** An answer of the server that refuses a request. */
class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.code = String(body.type || "").replace("urn:sluice:problem:", "");
  }
}

/** The server did not answer at all. */
class Unreachable extends Error {}

/** Sends one request of the native API and returns the parsed body, or null when it has none. */
async function request(method, path, body, { keepalive = false } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN_KEY);
    const headers = {};
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(path, {
        method, headers, keepalive, cache: "no-store",
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch {
      throw new Unreachable("the server cannot be reached");
    }
    if (response.ok) return response.status === 204 ? null : response.json();
    if (response.status === 401 && !keepalive && await askForToken(token !== null)) continue;
    throw new Problem(response.status, await response.json().catch(() => ({})));
  }
}

function callPath(call) {
  return `/v1/calls/${encodeURIComponent(call)}`;
}

/** Says in plain words what went wrong and, where there is one, the way out. */
function explain(error) {
  if (error instanceof Unreachable) return "The server cannot be reached. Is it running?";
  if (error instanceof Problem) {
    switch (error.code) {
      case "unauthorized": return "The server needs a token, and it was missing or wrong.";
      case "loopback-only": return `This server only answers its own machine: ${error.message}.`;
      case "limit-reached": return `The call is full: ${error.message}.`;
      case "unavailable": return "The server is overloaded or shutting down. Try again in a moment.";
      case "bad-sdp": return `The server and this browser have no media format in common: ${error.message}.`;
      default: return `The server refused: ${error.message}.`;
    }
  }
  switch (error?.name) {
    case "NotAllowedError": return "The browser was not allowed to use it. Permit it beside the address bar and try again.";
    case "NotFoundError": return "No such device was found on this computer.";
    case "NotReadableError": return "Another program is using the device.";
    case "OverconstrainedError": return "The chosen device is no longer there.";
    case "InvalidStateError": return "The browser wants a click for this. Press the button again.";
    case "InsecureContextError": return error.message;
    default: return `Something went wrong: ${error?.message || error}.`;
  }
}

// ---------------------------------------------------------------- connection

/** What a call can be given, in the order of the m= sections that carry it. */
const SOURCES = ["microphone", "camera", "screen"];

const BACK_OFF_MS = [500, 1000, 2000, 4000, 8000];
/** ICE restarts tried before the session is given up and a new one is made. */
const RESTARTS_MAX = 2;
/** How long a broken path may take to come back by itself, and a restarted one to connect. */
const PATH_PATIENCE_MS = 8000;

/**
 * This browser's place in a call: a session, its peer connection and its WebSocket, kept alive
 * over losses of either until `leave`.
 *
 * The client is the polite side of perfect negotiation: an offer of the server always wins. All
 * descriptions are applied one after the other in `#inOrder`.
 *
 * `onChange()` follows every change of `state`, `participants` or `received`; `onNotice(text)`
 * carries what a person should read.
 */
class Connection {
  state = "joining"; // joining → connected ⇄ reconnecting → ended
  pc = null;
  session = null;
  /** Other sessions by id: `{ id, name }`. */
  participants = new Map();
  /** What arrives, by mid: `{ mid, kind, session, trackId, track }`. */
  received = new Map();
  /** What is published, by source: MediaStreamTrack or null. */
  published = { microphone: null, camera: null, screen: null };

  #transceivers = {};
  #closedReason = null;
  #socket = null;
  #socketUrl = null;
  #attempt = 0;
  #retryTimer = null;
  #pathTimer = null;
  #restarts = 0;
  #offerRef = 0;
  #offerRefused = false;
  #tail = Promise.resolve();

  constructor({ call, name, transport, codec, onChange, onNotice }) {
    this.call = call;
    this.name = name;
    this.transport = transport;
    this.codec = codec;
    this.onChange = onChange;
    this.onNotice = onNotice;
  }

  /** Makes the session and connects. Rejects when the server refuses or cannot be reached. */
  async join() {
    this.#discard();
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    const pc = this.pc;
    for (const source of SOURCES) {
      // Sound and camera have their sections from the start, so that one can listen without
      // publishing; a section for the screen is only made by who shows one.
      if (source !== "screen" || this.published.screen) this.#openSection(source);
    }
    await pc.setLocalDescription();
    const created = await this.#createSession(pc.localDescription);
    if (this.state === "ended" || pc !== this.pc) {
      // Left while the request was on its way.
      request("DELETE", `${callPath(this.call)}/sessions/${created.session.id}`).catch(() => {});
      return;
    }
    this.session = created.session.id;
    this.#socketUrl = new URL(created.ws_url, location.href);
    this.#socketUrl.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    await pc.setRemoteDescription(this.#reachable(created.answer));
    pc.onnegotiationneeded = () => this.#offer();
    pc.onconnectionstatechange = () => this.#followPath();
    this.#openSocket();
    this.#followPath();
  }

  /** Publishes `track` as `source`, or stops publishing it when null. */
  publish(source, track) {
    const before = this.published[source];
    this.published[source] = track;
    this.#offerRefused = false;
    if (!this.pc || before === track) return;
    const transceiver = this.#transceivers[source];
    if (!transceiver) {
      if (track) this.#openSection(source);
      return;
    }
    transceiver.sender.replaceTrack(track).catch((error) => this.onNotice(explain(error)));
    transceiver.direction = track ? "sendonly" : "inactive";
  }

  /** The mid under which each source is published, by source. */
  publishedMids() {
    return Object.fromEntries(Object.entries(this.#transceivers).map(([source, t]) => [source, t.mid]));
  }

  /** Ends the session. `unloading`: the page goes away and cannot wait for an answer. */
  leave({ unloading = false } = {}) {
    if (this.state === "ended") return;
    const session = this.session;
    if (unloading) this.#send({ type: "leave" }); // the surer way out of a page that goes away
    this.#end();
    if (session) {
      request("DELETE", `${callPath(this.call)}/sessions/${session}`, undefined, { keepalive: unloading })
        .catch(() => {}); // the session ends by itself when nothing comes from it
    }
  }

  async #createSession(offer) {
    const body = { offer: { type: offer.type, sdp: offer.sdp } };
    if (this.name) body.name = this.name;
    for (;;) {
      try {
        return await request("POST", `${callPath(this.call)}/sessions`, body);
      } catch (error) {
        if (error.code !== "unknown-call") throw error;
      }
      try {
        await request("POST", "/v1/calls", { id: this.call, until_empty: true });
      } catch (error) {
        if (error.code !== "call-exists") throw error; // somebody else was faster, which is fine
      }
    }
  }

  #openSection(source) {
    const track = this.published[source];
    this.#transceivers[source] = this.pc.addTransceiver(
      track || (source === "microphone" ? "audio" : "video"),
      { direction: track ? "sendonly" : "inactive", streams: [new MediaStream()] },
    );
    if (source !== "microphone") this.#preferCodec(this.#transceivers[source]);
  }

  /** Puts the codec that was asked for first, so that it is the one sent. */
  #preferCodec(transceiver) {
    if (!this.codec) return;
    const { codecs } = RTCRtpSender.getCapabilities("video");
    const isWanted = (codec) => codec.mimeType.toLowerCase() === `video/${this.codec.toLowerCase()}`;
    const others = codecs.filter((codec) => !isWanted(codec));
    transceiver.setCodecPreferences([...codecs.filter(isWanted), ...others]);
  }

  /** A server's description, without its UDP candidates where only TCP is wanted. */
  #reachable({ type, sdp }) {
    if (this.transport !== "tcp") return { type, sdp };
    return { type, sdp: sdp.replace(/^a=candidate:\S+ \d+ udp .*\r?\n/gim, "") };
  }

  // Negotiation

  #inOrder(step) {
    const pc = this.pc;
    this.#tail = this.#tail.then(async () => {
      if (pc === this.pc && this.state !== "ended") await step(pc);
    }).catch((error) => {
      console.error(error);
      if (pc === this.pc) this.onNotice(explain(error));
    });
  }

  #offer() {
    this.#inOrder(async (pc) => {
      // When the state is not stable, negotiationneeded comes again once it is; when there is no
      // WebSocket, its welcome asks again.
      if (pc.signalingState !== "stable" || this.#offerRefused || !this.#socketReady()) return;
      await pc.setLocalDescription();
      this.#offerRef += 1;
      this.#send({ type: "offer", sdp: pc.localDescription.sdp, ref: this.#offerRef });
    });
  }

  #takeOffer({ sdp, offer_id }) {
    this.#inOrder(async (pc) => {
      await pc.setRemoteDescription(this.#reachable({ type: "offer", sdp })); // rolls ours back
      await pc.setLocalDescription();
      this.#send({ type: "answer", sdp: pc.localDescription.sdp, offer_id });
      this.#readSections();
    });
  }

  #takeAnswer({ sdp, ref }) {
    this.#inOrder(async (pc) => {
      if (pc.signalingState !== "have-local-offer" || ref !== this.#offerRef) return;
      await pc.setRemoteDescription(this.#reachable({ type: "answer", sdp }));
      this.#readSections();
    });
  }

  /** Takes back an offer that nobody will answer; negotiationneeded fires again after it. */
  #rollBack() {
    this.#inOrder(async (pc) => {
      if (pc.signalingState === "have-local-offer") await pc.setLocalDescription({ type: "rollback" });
    });
  }

  /** Finds out which section carries whose track: the server writes both into a=msid. */
  #readSections() {
    const transceivers = new Map(this.pc.getTransceivers().map((t) => [t.mid, t]));
    const before = this.received;
    this.received = new Map();
    for (const section of this.pc.remoteDescription.sdp.split(/\r?\nm=/).slice(1)) {
      const mid = /^a=mid:(\S+)/m.exec(section)?.[1];
      const msid = /^a=msid:(\S+) (\S+)/m.exec(section);
      const transceiver = transceivers.get(mid);
      if (!/recv/.test(transceiver?.currentDirection || "")) continue;
      const { track } = transceiver.receiver;
      if (msid) {
        this.received.set(mid, { mid, kind: track.kind, session: msid[1], trackId: msid[2], track });
      } else if (before.has(mid)) {
        this.received.set(mid, before.get(mid));
      }
    }
    this.onChange();
  }

  // Signalling

  #socketReady() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  #send(message) {
    if (this.#socketReady()) this.#socket.send(JSON.stringify(message));
  }

  #openSocket() {
    const socket = new WebSocket(this.#socketUrl);
    this.#socket = socket;
    socket.onmessage = (event) => {
      if (socket === this.#socket) this.#handle(JSON.parse(event.data));
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#socketLost(event.code);
    };
  }

  #handle(message) {
    switch (message.type) {
      case "welcome":
        this.#attempt = 0;
        this.participants = new Map(message.sessions
          .filter(({ id }) => id !== this.session).map((p) => [p.id, p]));
        this.#rollBack(); // an answer may have been lost with the last connection
        if (this.pc.signalingState === "stable") this.#offerIfChanged();
        this.#followPath();
        break;
      case "offer": this.#takeOffer(message); return;
      case "answer": this.#takeAnswer(message); return;
      case "glare": this.#rollBack(); return;
      case "session_joined":
        this.participants.set(message.session, { id: message.session, name: message.name });
        break;
      case "session_left":
        this.participants.delete(message.session);
        for (const [mid, { session }] of this.received) {
          if (session === message.session) this.received.delete(mid);
        }
        break;
      case "error":
        this.#refused(message);
        return;
      case "closed":
        this.#closedReason = message.reason;
        return;
      default: return; // track_added, track_removed and state: the descriptions and pc tell the same
    }
    this.onChange();
  }

  /** Offers what was changed while there was no WebSocket to say it over. */
  #offerIfChanged() {
    const changed = Object.values(this.#transceivers).some((t) =>
      t.mid === null || (t.direction === "sendonly") !== (t.currentDirection === "sendonly"));
    if (changed || this.#restarts > 0) this.#offer();
  }

  #refused({ problem, ref }) {
    const error = new Problem(problem?.status, problem || {});
    console.error(error);
    if (ref !== undefined && ref === this.#offerRef) {
      this.#offerRefused = true; // the same offer again would be refused again
      this.#rollBack();
    }
    this.onNotice(explain(error));
  }

  #socketLost(code) {
    this.#socket = null;
    if (this.state === "ended") return;
    const pathLost = ["failed", "disconnected"].includes(this.pc.connectionState);
    if (code === 4000 && !pathLost) {
      this.#end(this.#closedReason ? `The call ended: ${this.#closedReason}.` : "The call ended.");
    } else if (code === 4001) {
      this.#end("This session went on in another window.");
    } else if (code === 4000) {
      this.#rejoin();
    } else {
      this.#setState("reconnecting");
      this.#retry(() => this.#resume());
    }
  }

  /** Opens the WebSocket again, or makes a new session when the server has given up this one. */
  async #resume() {
    try {
      await request("GET", `${callPath(this.call)}/sessions/${this.session}`);
    } catch (error) {
      if (this.state === "ended") return;
      if (error instanceof Problem && error.status === 404) this.#rejoin();
      else this.#retry(() => this.#resume());
      return;
    }
    if (this.state !== "ended") this.#openSocket();
  }

  async #rejoin() {
    this.#setState("reconnecting");
    this.session = null;
    try {
      await this.join();
    } catch (error) {
      if (this.state === "ended") return;
      const passing = error instanceof Unreachable || error.status >= 500;
      if (passing) this.#retry(() => this.#rejoin());
      else this.#end(explain(error));
    }
  }

  #retry(step) {
    const wait = BACK_OFF_MS[Math.min(this.#attempt, BACK_OFF_MS.length - 1)];
    this.#attempt += 1;
    clearTimeout(this.#retryTimer);
    // Spread out, so that a whole call does not come back in the same instant.
    this.#retryTimer = setTimeout(step, wait * (0.75 + Math.random() / 2));
  }

  // Path

  /** Follows the peer connection's state, restarts ICE when the path is gone. */
  #followPath() {
    const path = this.pc.connectionState;
    clearTimeout(this.#pathTimer);
    if (path === "connected") {
      this.#restarts = 0;
      if (this.#socketReady()) this.#setState("connected");
    } else if (path === "failed") {
      this.#repairPath();
    } else if (path !== "closed") {
      if (this.state === "connected") this.#setState("reconnecting");
      this.#pathTimer = setTimeout(() => this.#repairPath(), PATH_PATIENCE_MS);
    }
  }

  #repairPath() {
    if (this.state === "ended") return;
    this.#setState(this.state === "joining" ? "joining" : "reconnecting");
    if (!this.#socketReady()) {
      // Nothing can be negotiated; the WebSocket's welcome leads back here.
      return;
    }
    if (this.#restarts >= RESTARTS_MAX) {
      if (this.state === "joining") {
        this.onNotice("No media path to the server. A firewall may block its UDP and TCP port; still trying.");
      }
      this.#restarts = 0;
      this.#closeSocket();
      request("DELETE", `${callPath(this.call)}/sessions/${this.session}`).catch(() => {});
      this.#retry(() => this.#rejoin());
      return;
    }
    this.#restarts += 1;
    this.pc.restartIce(); // fires negotiationneeded
    this.#pathTimer = setTimeout(() => this.#repairPath(), PATH_PATIENCE_MS);
  }

  #setState(state) {
    if (this.state === state || this.state === "ended") return;
    this.state = state;
    this.onChange();
  }

  /** Closes the WebSocket without taking it for a loss. */
  #closeSocket() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #discard() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#pathTimer);
    this.#closeSocket();
    this.pc?.close();
    this.pc = null;
    this.#transceivers = {};
    this.#tail = Promise.resolve();
    this.participants = new Map();
    this.received.clear();
  }

  #end(text) {
    this.#setState("ended");
    this.#discard();
    this.onChange();
    if (text) this.onNotice(text);
  }
}

// ---------------------------------------------------------------- measurements

/**
 * One measurement of every stream, by mid, rates taken against `before`.
 *
 * Each is `{ mid, direction, kind, bytes, at_ms, bitrate_bps, lost, frames, jitter_ms, rtt_ms }`;
 * an unknown figure is null. For what is sent, loss, jitter and round-trip time are those that
 * the server reports.
 */
async function measure(pc, before) {
  const reports = await pc.getStats();
  const streams = new Map();
  let path = null;
  for (const report of reports.values()) {
    if (report.type === "transport" && report.selectedCandidatePairId) {
      path = reports.get(report.selectedCandidatePairId);
    }
  }
  const ms = (seconds) => (seconds === undefined ? null : seconds * 1000);
  for (const report of reports.values()) {
    const inbound = report.type === "inbound-rtp";
    if ((!inbound && report.type !== "outbound-rtp") || report.mid === undefined) continue;
    const seen = inbound ? report : reports.get(report.remoteId) || {};
    const bytes = inbound ? report.bytesReceived : report.bytesSent;
    const last = before.get(report.mid);
    const elapsed_ms = last ? report.timestamp - last.at_ms : 0;
    streams.set(report.mid, {
      mid: report.mid,
      direction: inbound ? "in" : "out",
      kind: report.kind,
      bytes,
      at_ms: report.timestamp,
      bitrate_bps: elapsed_ms > 0 ? Math.max(0, (bytes - last.bytes) * 8000 / elapsed_ms) : null,
      lost: seen.packetsLost ?? null,
      frames: (inbound ? report.framesDecoded : report.framesEncoded) ?? null,
      jitter_ms: ms(seen.jitter),
      rtt_ms: ms((inbound ? undefined : seen.roundTripTime) ?? path?.currentRoundTripTime),
    });
  }
  return streams;
}

// ---------------------------------------------------------------- local media

function requireDevices() {
  if (navigator.mediaDevices) return navigator.mediaDevices;
  const error = new Error("Browsers give access to camera, microphone and screen only over HTTPS or on localhost. You can still watch and listen.");
  error.name = "InsecureContextError";
  throw error;
}

function chosen(deviceId) {
  return deviceId && !["default", "camera"].includes(deviceId) ? { deviceId: { exact: deviceId } } : {};
}

async function openMicrophone(deviceId) {
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, ...chosen(deviceId) };
  return (await requireDevices().getUserMedia({ audio })).getAudioTracks()[0];
}

async function openCamera(deviceId) {
  // Everyone gets the same one picture size, so it is one that a weak receiver can take too.
  const video = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, ...chosen(deviceId) };
  return (await requireDevices().getUserMedia({ video })).getVideoTracks()[0];
}

async function openScreen() {
  const stream = await requireDevices().getDisplayMedia({ video: { frameRate: { max: 15 } }, audio: false });
  const track = stream.getVideoTracks()[0];
  track.contentHint = "detail";
  return track;
}

// ---------------------------------------------------------------- view

const view = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

/** One picture with its figures: a person, or a further picture that a person shows. */
class Tile {
  #rows = new Map();

  constructor() {
    this.element = view["tile-template"].content.firstElementChild.cloneNode(true);
    this.video = this.element.querySelector("video");
  }

  /** `streams`: what the rows stand for, as `{ key, label }`. */
  show({ name, track, mirrored, own, streams }) {
    this.element.querySelector(".caption").textContent = name;
    this.element.setAttribute("aria-label", name);
    this.element.querySelector(".initials").textContent = initials(name);
    this.element.querySelector(".frames").textContent = own ? "Encoded" : "Decoded";
    this.element.classList.toggle("without-video", !track);
    this.element.classList.toggle("mirrored", Boolean(mirrored));
    attach(this.video, track);
    const body = this.element.querySelector("tbody");
    for (const [key, row] of this.#rows) {
      if (!streams.some((stream) => stream.key === key)) {
        row.remove();
        this.#rows.delete(key);
      }
    }
    for (const { key, label } of streams) {
      if (!this.#rows.has(key)) {
        const row = body.insertRow();
        const head = document.createElement("th");
        head.scope = "row";
        row.append(head);
        for (let i = 0; i < 5; i += 1) row.insertCell().textContent = "–";
        this.#rows.set(key, row);
      }
      this.#rows.get(key).cells[0].textContent = label;
    }
    this.element.querySelector(".figures").hidden = streams.length === 0;
  }

  /** Writes the figures of the rows that `find(key)` has a measurement for. */
  figures(find) {
    for (const [key, row] of this.#rows) {
      const stream = find(key);
      const texts = stream ? [
        rounded(stream.bitrate_bps === null ? null : stream.bitrate_bps / 1000, 0),
        rounded(stream.lost, 0),
        stream.kind === "video" ? rounded(stream.frames, 0) : "",
        withUnit(stream.jitter_ms),
        withUnit(stream.rtt_ms),
      ] : ["–", "–", "–", "–", "–"];
      texts.forEach((text, i) => { row.cells[i + 1].textContent = text; });
    }
  }
}

function initials(name) {
  const letters = name.split(/\s+/).map((word) => [...word][0] || "").filter((c) => /[\p{L}\p{N}]/u.test(c));
  return letters.slice(0, 2).join("").toUpperCase() || "?";
}

function rounded(value, digits) {
  return value === null ? "–" : value.toFixed(digits);
}

function withUnit(milliseconds) {
  return milliseconds === null ? "–" : `${rounded(milliseconds, milliseconds < 10 ? 1 : 0)} ms`;
}

/** Lets a media element play exactly `track`. */
function attach(element, track) {
  const playing = element.srcObject?.getTracks()[0] || null;
  if (playing === (track || null)) return;
  element.srcObject = track ? new MediaStream([track]) : null;
  if (track) play(element);
}

function play(element) {
  element.play().catch((error) => {
    // Browsers keep pages silent that nobody has clicked on.
    if (error.name === "NotAllowedError") view.unblock.hidden = false;
  });
}

const OWN = "own";
const tiles = new Map();
const speakers = new Map();
let connection = null;
let measured = new Map();

function nameOf(session) {
  return connection.participants.get(session)?.name || `Guest ${session.slice(0, 4)}`;
}

/** What tiles there should be, by key. */
function wantedTiles() {
  const wanted = new Map();
  const { published } = connection;
  const own = [
    { key: "microphone", label: "Sound", track: published.microphone },
    { key: "camera", label: "Camera", track: published.camera },
    { key: "screen", label: "Screen", track: published.screen },
  ].filter(({ track }) => track);
  wanted.set(OWN, {
    name: connection.name ? `${connection.name} (you)` : "You",
    own: true,
    track: published.camera || published.screen,
    mirrored: Boolean(published.camera),
    streams: own,
  });
  const received = [...connection.received.values()];
  const others = new Set([...connection.participants.keys(), ...received.map(({ session }) => session)]);
  for (const id of others) {
    const streams = received.filter(({ session }) => session === id);
    const videos = streams.filter(({ kind }) => kind === "video");
    const sounds = streams.filter(({ kind }) => kind === "audio");
    wanted.set(id, {
      name: nameOf(id),
      track: videos[0]?.track,
      streams: [...sounds.map(({ mid }) => ({ key: mid, label: "Sound" })),
        ...videos.slice(0, 1).map(({ mid }) => ({ key: mid, label: "Video" }))],
    });
    videos.slice(1).forEach(({ mid, track }, i) => wanted.set(`${id}/${i + 2}`, {
      name: `${nameOf(id)}, picture ${i + 2}`, track, streams: [{ key: mid, label: "Video" }],
    }));
  }
  return wanted;
}

function render() {
  const inCall = connection !== null && connection.state !== "ended";
  view.join.hidden = inCall;
  view.room.hidden = view.controls.hidden = view["call-title"].hidden = !inCall;
  const wanted = inCall ? wantedTiles() : new Map();
  for (const [key, tile] of tiles) {
    if (wanted.has(key)) continue;
    attach(tile.video, null);
    tile.element.remove();
    tiles.delete(key);
  }
  for (const [key, content] of wanted) {
    if (!tiles.has(key)) {
      tiles.set(key, new Tile());
      view.grid.append(tiles.get(key).element);
    }
    tiles.get(key).show(content);
  }
  renderSound(inCall);
  document.title = inCall ? `${connection.call} · Sluice` : "Sluice";
  if (!inCall) {
    view.status.textContent = "";
    return;
  }
  view["call-title"].textContent = connection.call;
  view.status.textContent = {
    joining: "Connecting…",
    connected: `${connection.participants.size + 1} in the call`,
    reconnecting: "Connection lost. Reconnecting…",
  }[connection.state];
  view.empty.hidden = connection.participants.size > 0 || connection.state !== "connected";
  renderControls();
}

/** Sound plays apart from the pictures, so that a muted picture is free to start by itself. */
function renderSound(inCall) {
  const sounds = inCall ? [...connection.received.values()].filter(({ kind }) => kind === "audio") : [];
  for (const [mid, element] of speakers) {
    if (sounds.some((sound) => sound.mid === mid)) continue;
    attach(element, null);
    element.remove();
    speakers.delete(mid);
  }
  for (const { mid, track } of sounds) {
    if (!speakers.has(mid)) {
      const element = document.createElement("audio");
      element.autoplay = true;
      view.room.append(element);
      speakers.set(mid, element);
    }
    attach(speakers.get(mid), track);
  }
  if (sounds.length === 0) view.unblock.hidden = true;
}

function renderControls() {
  const { microphone, camera, screen } = connection.published;
  const state = (button, active, text) => {
    button.setAttribute("aria-pressed", String(active));
    button.querySelector("span").textContent = text;
    button.title = text;
  };
  const speaking = Boolean(microphone?.enabled);
  state(view["toggle-microphone"], speaking, speaking ? "Mute" : microphone ? "Unmute" : "Use microphone");
  state(view["toggle-camera"], Boolean(camera), camera ? "Stop camera" : "Start camera");
  state(view["toggle-screen"], Boolean(screen), screen ? "Stop sharing" : "Share screen");
}

function notice(text) {
  view["notice-text"].textContent = text;
  view.notice.hidden = !text;
}

/** Asks for the API token and keeps it for this tab. Resolves to false when nobody gave one. */
function askForToken(wasWrong) {
  const dialog = view["token-dialog"];
  view["token-title"].textContent = wasWrong ? "That token is wrong" : "This server asks for a token";
  return new Promise((resolve) => {
    dialog.returnValue = "cancel";
    dialog.addEventListener("close", () => {
      const token = view.token.value.trim();
      view.token.value = "";
      const given = dialog.returnValue === "use" && token !== "";
      if (given) sessionStorage.setItem(TOKEN_KEY, token);
      else sessionStorage.removeItem(TOKEN_KEY);
      resolve(given);
    }, { once: true });
    if (!dialog.open) dialog.showModal();
  });
}

/** Refills the device lists; browsers name devices only once one was permitted. */
async function listDevices() {
  const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => []) || [];
  for (const [kind, select, standard] of [
    ["audioinput", view.microphone, "default"], ["videoinput", view.video, "camera"]]) {
    const value = select.value;
    select.querySelectorAll("[data-device]").forEach((option) => option.remove());
    for (const { deviceId, label } of devices.filter((d) => d.kind === kind && d.label)) {
      if (["default", "communications", ""].includes(deviceId)) continue;
      const option = new Option(label, deviceId);
      option.dataset.device = "";
      select.querySelector(`[value="${standard}"]`).after(option);
    }
    select.value = value;
    if (select.selectedIndex < 0) select.value = standard;
  }
}

// ---------------------------------------------------------------- start

/** Opens a source and publishes it; says why when it cannot. */
async function start(source, open) {
  const into = connection;
  const button = view[`toggle-${source}`];
  button.disabled = true;
  try {
    const track = await open();
    if (into.state === "ended") {
      track.stop();
      return;
    }
    track.onended = () => stop(source, into); // unplugged, or "stop sharing" of the browser itself
    into.publish(source, track);
    listDevices();
  } catch (error) {
    const what = { microphone: "Microphone", camera: "Camera", screen: "Screen sharing" }[source];
    notice(`${what}: ${explain(error)}`);
  } finally {
    button.disabled = false;
  }
  render();
}

function stop(source, from = connection) {
  const track = from.published[source];
  if (track) {
    track.onended = null;
    track.stop();
  }
  from.publish(source, null);
  render();
}

async function join({ call, name, microphone, video, transport, codec }) {
  notice("");
  view["join-button"].disabled = true;
  const handlers = { onNotice: notice, onChange: connectionChanged };
  connection = new Connection({ call, name, transport, codec, ...handlers });
  const joining = connection;
  try {
    if (microphone !== "none") await start("microphone", () => openMicrophone(microphone));
    if (video === "screen") await start("screen", openScreen);
    else if (video !== "none") await start("camera", () => openCamera(video));
    if (joining.state === "ended") return;
    history.replaceState(null, "", callLink(call));
    await joining.join();
  } catch (error) {
    if (joining.state === "ended") return; // left meanwhile
    joining.leave();
    notice(explain(error));
  } finally {
    view["join-button"].disabled = false;
    render();
  }
}

function connectionChanged() {
  if (connection.state === "ended") {
    for (const source of SOURCES) {
      connection.published[source]?.stop();
      connection.published[source] = null;
    }
    measured = new Map();
  }
  render();
}

/** The address that leads into the call, for others and for a reload. */
function callLink(call) {
  const link = new URL("/", location.href);
  link.searchParams.set("call", call);
  for (const kept of ["transport", "codec"]) {
    if (parameters.has(kept)) link.searchParams.set(kept, parameters.get(kept));
  }
  return link;
}

async function updateFigures() {
  const { pc } = connection || {};
  if (!pc) return;
  const streams = await measure(pc, measured).catch(() => null);
  if (!streams || pc !== connection.pc) return;
  measured = streams;
  const mids = connection.publishedMids();
  for (const [key, tile] of tiles) tile.figures((row) => streams.get(key === OWN ? mids[row] : row));
}

function formChoice() {
  return {
    call: view.call.value.trim(),
    name: view.name.value.trim(),
    microphone: view.microphone.value,
    video: view.video.value,
    transport: parameters.get("transport"),
    codec: parameters.get("codec"),
  };
}

const parameters = new URLSearchParams(location.search);
let fromHash = location.hash.slice(1);
try {
  fromHash = decodeURIComponent(fromHash);
} catch {
  // Shown as it stands; the field's pattern refuses it.
}
view.call.value = parameters.get("call") || fromHash || "";
view.name.value = parameters.get("name") || "";
if (["camera", "screen", "none"].includes(parameters.get("video"))) view.video.value = parameters.get("video");
if (parameters.get("audio") === "none") view.microphone.value = "none";

view.join.addEventListener("submit", (event) => {
  event.preventDefault();
  join(formChoice());
});
view.leave.addEventListener("click", () => {
  connection.leave();
  view.call.focus();
});
view["toggle-microphone"].addEventListener("click", () => {
  const track = connection.published.microphone;
  if (!track) {
    start("microphone", () => openMicrophone(view.microphone.value === "none" ? "" : view.microphone.value));
    return;
  }
  track.enabled = !track.enabled;
  renderControls();
});
view["toggle-camera"].addEventListener("click", () => {
  const device = ["screen", "none"].includes(view.video.value) ? "" : view.video.value;
  if (connection.published.camera) stop("camera");
  else start("camera", () => openCamera(device));
});
view["toggle-screen"].addEventListener("click", () => {
  if (connection.published.screen) stop("screen");
  else start("screen", openScreen);
});
view["copy-link"].addEventListener("click", async () => {
  const link = callLink(connection.call).href;
  try {
    await navigator.clipboard.writeText(link);
    view.status.textContent = "Link copied";
  } catch {
    notice(`The link to this call: ${link}`);
  }
});
view.unblock.addEventListener("click", () => {
  view.unblock.hidden = true;
  for (const element of speakers.values()) play(element);
});
view["notice-close"].addEventListener("click", () => notice(""));
window.addEventListener("pagehide", () => connection?.leave({ unloading: true }));
navigator.mediaDevices?.addEventListener("devicechange", listDevices);
setInterval(updateFigures, 1000);
listDevices();

/** For tests and for a look from the browser's console. */
window.sluice = {
  get state() { return connection?.state || "idle"; },
  get pc() { return connection?.pc || null; },
  get session() { return connection?.session || null; },
  get call() { return connection?.call || null; },
  get participants() { return connection ? [...connection.participants.values()] : []; },
  /** What arrives: `{ mid, kind, session, name, trackId }`. */
  get received() {
    return connection ? [...connection.received.values()].map(({ track, ...rest }) =>
      ({ ...rest, name: connection.participants.get(rest.session)?.name ?? null })) : [];
  },
  /** The figures on the page, one measurement per stream. */
  get figures() { return [...measured.values()]; },
};

if (parameters.get("auto") === "1" && view.join.reportValidity()) join(formChoice());
