// What participants send: the microphone and the camera that Chromium makes up, and a screen that is drawn.

const DRAWN_PER_S = 30;

export function microphone() {
  return navigator.mediaDevices.getUserMedia({ audio: true });
}

export function camera() {
  return navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 30 } },
  });
}

/** A screen with something new in each picture, and with a tone if `audio` is asked for. */
export function drawnScreen(label, audio) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [640, 360];
  const paint = canvas.getContext("2d");
  const stream = canvas.captureStream(DRAWN_PER_S);
  let picture = 0;
  const timer = setInterval(() => draw(paint, label, (picture += 1)), 1000 / DRAWN_PER_S);
  const [video] = stream.getVideoTracks();

  const context = audio ? new AudioContext() : null;
  if (context) {
    const tone = new OscillatorNode(context, { frequency: 660 });
    const output = new MediaStreamAudioDestinationNode(context);
    tone.connect(output);
    tone.start();
    stream.addTrack(output.stream.getAudioTracks()[0]);
  }
  const stop = video.stop.bind(video);
  video.stop = () => {
    clearInterval(timer);
    context?.close();
    stop();
  };
  return stream;
}

// Many small areas change in each picture, so that more pictures take more bits.
function draw(paint, label, picture) {
  const { width, height } = paint.canvas;
  paint.fillStyle = "#203040";
  paint.fillRect(0, 0, width, height);
  for (let column = 0; column < 32; column += 1) {
    const hue = (column * 11 + picture * 3) % 360;
    paint.fillStyle = `hsl(${hue} 70% 50%)`;
    const length = (Math.sin(picture / 7 + column) + 1) * 100;
    paint.fillRect(column * 20, height - length, 16, length);
  }
  paint.fillStyle = "#fff";
  paint.font = "40px sans-serif";
  paint.fillText(`${label}: picture ${picture}`, 20, 60);
}
