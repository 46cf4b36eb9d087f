// A participant's page: the plugin's events in, actions out, and tiles for what is received.
// Its address says who takes part in what; `window.caller` is what tests drive.

import { camera, drawnScreen, microphone } from "./media.js";
import { Peer } from "./peer.js";

const query = new URLSearchParams(location.search);
const name = query.get("name");
const call = query.get("call");

class Caller {
  #socket;
  #people = new Map(); // names by session
  #speaking = new Set();
  #streams = {};

  state = "joining";
  session = null;
  peer = null;

  /** Whether the server said that this session is closed. */
  closed = false;

  constructor() {
    this.#open(() => {
      const dcSignaling = query.has("dc");
      this.#act("join", { channelID: call, userID: name, av1Support: query.has("av1"), dcSignaling });
    });
  }

  #open(greet) {
    this.#socket = new WebSocket(`ws://${location.host}/socket`);
    this.#socket.onopen = greet;
    this.#socket.onmessage = ({ data }) => this.#handleEvent(JSON.parse(data));
  }

  #act(action, data) {
    if (this.#socket.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ action, data }));
    }
  }

  async #handleEvent({ event, data }) {
    switch (event) {
      case "join":
        this.session = data.connID;
        for (const [session, user] of Object.entries(data.people)) this.#people.set(session, user);
        this.#startPeer();
        break;
      case "signal":
        if (data.connID === this.session) await this.peer.handleSignal(data.data);
        break;
      case "user_joined":
        this.#people.set(data.session_id, data.user_id);
        break;
      case "user_left":
        if (data.session_id === this.session) this.closed = true;
        this.#people.delete(data.session_id);
        this.#speaking.delete(data.session_id);
        break;
      case "user_voice_on":
        this.#speaking.add(data.session_id);
        break;
      case "user_voice_off":
        this.#speaking.delete(data.session_id);
        break;
      default: // nothing on this page shows it
    }
    this.#show();
  }

  #startPeer() {
    this.peer = new Peer({
      send: (action, data) => this.#act(action, data),
      changed: () => this.#show(),
      dcSignaling: query.has("dc"),
      locking: query.get("locking") !== "off",
      simulcast: query.has("simulcast"),
      av1: query.has("av1"),
      transport: query.get("transport"),
      metricsMs: query.has("metrics_ms") ? Number(query.get("metrics_ms")) : undefined,
    });
    this.peer.pc.onconnectionstatechange = () => {
      this.state = this.peer.pc.connectionState;
      this.#show();
    };
  }

  /** Gives the plugin's WebSocket up and opens another for the same session. */
  reconnect() {
    this.#socket.close();
    this.#open(() => this.#act("reconnect", { channelID: call, originalConnID: this.session }));
  }

  leave() {
    this.#act("leave");
    this.peer.close();
    this.peer.remote.clear();
    this.state = "left";
    this.#show();
  }

  // What is sent.

  async unmute() {
    this.#streams.microphone ??= await microphone();
    const { microphone: stream } = this.#streams;
    await this.peer.unmute(stream.getAudioTracks()[0], stream);
  }

  mute() {
    return this.peer.mute();
  }

  async shareScreen({ audio = false } = {}) {
    this.#streams.screen = drawnScreen(name, audio);
    await this.peer.shareScreen(this.#streams.screen);
  }

  async stopScreen() {
    await this.peer.stopScreen();
    this.#stop("screen");
  }

  async startCamera() {
    this.#streams.camera = await camera();
    await this.peer.startCamera(this.#streams.camera);
  }

  async stopCamera() {
    await this.peer.stopCamera();
    this.#stop("camera");
  }

  #stop(kind) {
    this.#streams[kind].getTracks().forEach((track) => track.stop());
    delete this.#streams[kind];
  }

  // What tests read.

  /** Raw reports of what arrives, with its type and its sender's name beside each. */
  async received() {
    const reports = await this.peer.pc.getStats();
    const streams = [];
    for (const report of reports.values()) {
      const remote = report.type === "inbound-rtp" ? this.peer.remote.get(report.mid) : null;
      if (!remote) continue;
      const publisher = this.#people.get(remote.sender) ?? remote.sender;
      const codec = reports.get(report.codecId)?.mimeType;
      streams.push({ ...report, media: remote.type, publisher, codec });
    }
    return streams;
  }

  /** Raw reports of what is sent. */
  async sent() {
    const reports = [...(await this.peer.pc.getStats()).values()];
    return reports.filter(({ type }) => type === "outbound-rtp");
  }

  /** The pair of candidates in use. */
  async path() {
    const reports = await this.peer.pc.getStats();
    const transport = [...reports.values()].find(({ type }) => type === "transport");
    const pair = reports.get(transport?.selectedCandidatePairId);
    if (!pair) return null;
    const [local, remote] = [reports.get(pair.localCandidateId), reports.get(pair.remoteCandidateId)];
    return { protocol: local.protocol, address: remote.address, port: remote.port };
  }

  /** How many m= sections were negotiated. */
  sections() {
    return this.peer.pc.remoteDescription.sdp.match(/^m=/gm).length;
  }

  // What is shown.

  #show() {
    const described = `${call}: ${name}, ${this.state}`;
    document.querySelector("h1").textContent = described;
    document.title = described;
    const people = [...this.#people].map(([session, user]) => {
      const item = document.createElement("li");
      item.textContent = user + (this.#speaking.has(session) ? " (speaking)" : "");
      return item;
    });
    document.getElementById("people").replaceChildren(...people);

    const tiles = document.getElementById("tiles");
    const wanted = this.peer?.remote ?? new Map();
    for (const tile of [...tiles.children]) {
      const remote = wanted.get(tile.dataset.mid);
      if (remote?.type !== tile.dataset.type || remote?.sender !== tile.dataset.sender) tile.remove();
    }
    for (const [mid, remote] of wanted) {
      if (!tiles.querySelector(`[data-mid="${mid}"]`)) tiles.append(this.#tile(mid, remote));
    }
  }

  #tile(mid, { type, sender, track }) {
    const tile = document.createElement("figure");
    Object.assign(tile.dataset, { mid, type, sender });
    const player = document.createElement(track.kind);
    player.autoplay = true;
    player.srcObject = new MediaStream([track]);
    const caption = document.createElement("figcaption");
    caption.textContent = `${type} of ${this.#people.get(sender) ?? sender} (mid ${mid})`;
    tile.append(player, caption);
    return tile;
  }
}

window.caller = new Caller();
