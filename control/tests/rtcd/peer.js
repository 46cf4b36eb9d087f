// The WebRTC side of a participant as clients of Mattermost Calls behave: a data channel first, a
// polite peer in negotiation, tracks told apart by the server's media map.

import { Kind, decode, deflate, encode, inflate } from "./data_channel.js";
import { SignallingLock } from "./signalling_lock.js";

const PING_MS = 1000;
const METRICS_MS = 10000;

const SCREEN = [{ maxBitrate: 1_000_000, maxFramerate: 10, scaleResolutionDownBy: 1 }];
const SCREEN_SIMULCAST = [
  { rid: "l", maxBitrate: 500_000, maxFramerate: 5, scaleResolutionDownBy: 1 },
  { rid: "h", maxBitrate: 2_500_000, maxFramerate: 20, scaleResolutionDownBy: 1 },
];
const CAMERA = [{ maxBitrate: 1_000_000, maxFramerate: 30, scaleResolutionDownBy: 1 }];

/**
 * Options: `send(action, data)` leads to the plugin; `changed()` is called when received tracks
 * come or go; `dcSignaling`, `locking`, `simulcast` and `av1` are features of the client;
 * `transport` ("udp" or "tcp") leaves the other kind of candidates unused.
 */
export class Peer {
  #options;
  #lock;
  #sending = Promise.resolve();
  #reading = Promise.resolve();
  #candidates = []; // of the server, until there is a description for them
  #negotiated = false;
  #mediaMap = {};
  #voice = null;
  #screen = [];
  #camera = null;
  #timers = [];

  pc = new RTCPeerConnection();

  /** Received tracks by mid: `type`, `sender` and `track`. */
  remote = new Map();

  /** What passed over the data channel, and what the tests look for in the negotiation. */
  seen = {
    mediaMaps: 0,
    pongs: 0,
    texts: [],
    offersByDataChannel: 0,
    answersByDataChannel: 0,
    offersRolledBack: 0,
    offersReceived: 0,
    offersMade: 0,
    videoDropped: 0,
  };

  constructor(options) {
    this.#options = options;
    const { pc } = this;
    pc.onnegotiationneeded = () => this.#offer();
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate && this.#usable(candidate.candidate)) {
        options.send("ice", JSON.stringify(candidate));
      }
    };
    pc.ontrack = (event) => this.#addRemote(event);

    // The first offer has this channel and nothing else.
    this.channel = pc.createDataChannel("calls-dc");
    this.channel.binaryType = "arraybuffer";
    this.channel.onmessage = ({ data }) => {
      this.#reading = this.#reading.then(() => this.#handleMessage(data));
    };
    this.opened = new Promise((resolve) => {
      this.channel.onopen = resolve;
    });
    this.#lock = new SignallingLock((wanted) => this.#message(wanted ? Kind.LOCK : Kind.UNLOCK));
    this.opened.then(() => {
      this.#every(PING_MS, () => this.#message(Kind.PING));
      this.#every(options.metricsMs ?? METRICS_MS, () => this.#sendMetrics());
    });
  }

  close() {
    this.#timers.forEach(clearInterval);
    this.pc.close();
  }

  get lock() {
    return this.#lock;
  }

  #every(milliseconds, act) {
    this.#timers.push(setInterval(act, milliseconds));
  }

  // Negotiation.

  async #offer() {
    await this.pc.setLocalDescription();
    this.seen.offersMade += 1;
    this.#sendDescription(this.pc.localDescription);
  }

  /** A message of the server that came over the plugin: its `data`, as text. */
  async handleSignal(text) {
    const signal = JSON.parse(text);
    if (signal.type === "candidate") await this.#addCandidate(signal.candidate);
    else await this.#handleDescription(signal);
  }

  async #handleDescription(description) {
    const { pc } = this;
    if (description.type === "offer") {
      this.seen.offersReceived += 1;
      // The polite side: an own offer that is out is taken back by the next line, and made again
      // once this negotiation is done.
      if (pc.signalingState === "have-local-offer") this.seen.offersRolledBack += 1;
    }
    await pc.setRemoteDescription({ ...description, sdp: this.#onlyUsable(description.sdp) });
    for (const candidate of this.#candidates.splice(0)) await pc.addIceCandidate(candidate);

    if (description.type === "offer") {
      await pc.setLocalDescription();
      this.#sendDescription(pc.localDescription);
    } else {
      // After each answer but the first, whether or not the lock was taken.
      if (this.#negotiated) this.#lock.release();
      this.#negotiated = true;
    }
  }

  async #addCandidate(candidate) {
    if (!this.#usable(candidate.candidate)) return;
    if (this.pc.remoteDescription) await this.pc.addIceCandidate(candidate);
    else this.#candidates.push(candidate);
  }

  /** Whether a candidate is of the transport that is asked for. */
  #usable(candidate) {
    const transport = candidate.split(" ")[2]?.toLowerCase();
    return !this.#options.transport || transport === this.#options.transport;
  }

  #onlyUsable(sdp) {
    const usable = (line) => !line.startsWith("a=candidate:") || this.#usable(line);
    return sdp.split("\r\n").filter(usable).join("\r\n");
  }

  #sendDescription(description) {
    const text = JSON.stringify(description);
    if (!this.#options.dcSignaling || this.channel.readyState !== "open") {
      this.#options.send("sdp", text);
      return;
    }
    // Compression takes turns of the event loop; descriptions must not overtake each other.
    this.#sending = this.#sending.then(async () => {
      this.#message(Kind.SDP, await deflate(text));
    });
  }

  /** Makes a change that leads to an offer while the server keeps from offering. */
  async #change(act) {
    await this.opened;
    if (this.#options.locking) await this.#lock.take();
    act();
  }

  // The data channel.

  #message(kind, value) {
    if (this.channel.readyState === "open") this.channel.send(encode(kind, value));
  }

  async #handleMessage(data) {
    if (typeof data === "string") {
      this.seen.texts.push(data);
      return;
    }
    const { kind, value } = decode(new Uint8Array(data));
    switch (kind) {
      case Kind.PONG:
        this.seen.pongs += 1;
        break;
      case Kind.LOCK:
        this.#lock.handleAnswer(value);
        break;
      case Kind.MEDIA_MAP:
        this.seen.mediaMaps += 1;
        this.#mediaMap = value;
        break;
      case Kind.SDP: {
        const description = JSON.parse(await inflate(value));
        this.seen[`${description.type}sByDataChannel`] += 1;
        await this.#handleDescription(description);
        break;
      }
      default:
        throw new Error(`the server sent a message of the kind ${kind}`);
    }
  }

  /** The ping of clients from before the binary messages. */
  pingAsText() {
    this.channel.send("ping");
  }

  async #sendMetrics() {
    for (const report of (await this.pc.getStats()).values()) {
      if (report.type === "remote-inbound-rtp" && report.kind === "audio") {
        if (report.fractionLost >= 0) this.#message(Kind.LOSS_RATE, report.fractionLost);
        if (report.jitter > 0) this.#message(Kind.JITTER, report.jitter);
      }
      if (report.type === "candidate-pair" && report.nominated && report.currentRoundTripTime > 0) {
        this.#message(Kind.ROUND_TRIP_TIME, report.currentRoundTripTime);
      }
    }
  }

  // What is received.

  #addRemote({ track, transceiver, streams }) {
    const { mid } = transceiver;
    const entry = this.#mediaMap[mid];
    if (track.kind === "video" && entry?.type !== "video" && entry?.type !== "screen") {
      this.seen.videoDropped += 1;
      return;
    }
    this.remote.set(mid, { type: entry?.type ?? "voice", sender: entry?.sender_id, track });
    for (const stream of streams) {
      stream.onremovetrack = (removed) => {
        for (const [key, value] of this.remote) {
          if (value.track === removed.track) this.remote.delete(key);
        }
        this.#options.changed();
      };
    }
    this.#options.changed();
  }

  // What is sent.

  /** Sends the microphone's track; a section for it is made the first time. */
  async unmute(track, stream) {
    if (this.#voice) {
      await this.#voice.replaceTrack(track);
    } else {
      await this.#change(() => {
        this.#voice = this.pc.addTrack(track, stream);
      });
    }
    this.#options.send("unmute");
  }

  async mute() {
    await this.#voice?.replaceTrack(null);
    this.#options.send("mute");
  }

  /** Shares a stream of one video track and perhaps one audio track. */
  async shareScreen(stream) {
    const { simulcast, av1, send } = this.#options;
    send("screen_on", JSON.stringify({ screenStreamID: stream.id }));
    const [video] = stream.getVideoTracks();
    await this.#change(() => {
      const publish = (track, sendEncodings) =>
        this.pc.addTransceiver(track, { direction: "sendrecv", streams: [stream], sendEncodings });
      const sections = [publish(video, simulcast ? SCREEN_SIMULCAST : SCREEN)];
      if (av1 && !simulcast) {
        const second = publish(video.clone(), SCREEN);
        const { codecs } = RTCRtpSender.getCapabilities("video");
        second.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType === "video/AV1"));
        sections.push(second);
      }
      this.#screen = sections.map(({ sender }) => sender);
      for (const audio of stream.getAudioTracks()) this.#screen.push(this.pc.addTrack(audio, stream));
    });
  }

  async stopScreen() {
    await this.#change(() => this.#screen.splice(0).forEach((sender) => this.pc.removeTrack(sender)));
    this.#options.send("screen_off");
  }

  /** Sends the camera. The tracks come first and the message after them, as clients do it. */
  async startCamera(stream) {
    const [track] = stream.getVideoTracks();
    if (this.#camera) {
      await this.#camera.replaceTrack(track);
    } else {
      await this.#change(() => {
        const init = { direction: "sendrecv", streams: [stream], sendEncodings: CAMERA };
        this.#camera = this.pc.addTransceiver(track, init).sender;
      });
    }
    this.#options.send("video_on", JSON.stringify({ videoStreamID: stream.id }));
  }

  async stopCamera() {
    await this.#camera.replaceTrack(null);
    this.#options.send("video_off");
  }
}
