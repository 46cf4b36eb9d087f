"""A media file whose every picture carries its number, so that each can be told at the far end."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy

WIDTH, HEIGHT = 320, 240
FRAMES_PER_S = 25
SAMPLES_PER_S = 48_000
TONE_HZ = 440
FILE_S = 12

# The number stands in the picture as black and white blocks, least bit first. Blocks of this size
# survive any quantiser. The first block is always white and the second black: without them the
# picture is none of ours.
BLOCK = 40
BITS = 12
COLUMNS = WIDTH // BLOCK


def draw_number(number: int) -> numpy.ndarray:
    """A grey picture that shows `number`."""
    picture = numpy.full((HEIGHT, WIDTH), 128, numpy.uint8)
    for place, bit in enumerate([1, 0, *((number >> i) & 1 for i in range(BITS))]):
        y, x = place // COLUMNS * BLOCK, place % COLUMNS * BLOCK
        picture[y : y + BLOCK, x : x + BLOCK] = 235 if bit else 16
    return picture


def read_number(picture: numpy.ndarray) -> int | None:
    """The number that a grey picture shows; None when it shows none."""
    if picture.shape[0] < HEIGHT or picture.shape[1] < WIDTH:
        return None
    bits = []
    for place in range(BITS + 2):
        y, x = place // COLUMNS * BLOCK + BLOCK // 2, place % COLUMNS * BLOCK + BLOCK // 2
        bits.append(int(picture[y - 8 : y + 8, x - 8 : x + 8].mean() > 128))
    if bits[:2] != [1, 0]:
        return None
    return sum(bit << i for i, bit in enumerate(bits[2:]))


def write_file(path: Path, seconds: int) -> None:
    """Writes a WebM file of VP8 and Opus."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libvpx", rate=FRAMES_PER_S)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.bit_rate = 500_000
        video.options = {"deadline": "realtime", "cpu-used": "8", "g": str(FRAMES_PER_S)}
        audio = container.add_stream("libopus", rate=SAMPLES_PER_S, layout="stereo")
        samples = 0
        per_frame = SAMPLES_PER_S // FRAMES_PER_S
        for number in range(seconds * FRAMES_PER_S):
            picture = av.VideoFrame.from_ndarray(draw_number(number), format="gray")
            picture.pts, picture.time_base = number, Fraction(1, FRAMES_PER_S)
            container.mux(video.encode(picture.reformat(format="yuv420p")))
            times = (samples + numpy.arange(per_frame)) / SAMPLES_PER_S
            wave = (8000 * numpy.sin(2 * numpy.pi * TONE_HZ * times)).astype(numpy.int16)
            sound = av.AudioFrame.from_ndarray(
                numpy.repeat(wave, 2)[numpy.newaxis, :], format="s16", layout="stereo"
            )
            sound.sample_rate, sound.pts = SAMPLES_PER_S, samples
            sound.time_base = Fraction(1, SAMPLES_PER_S)
            container.mux(audio.encode(sound))
            samples += per_frame
        container.mux(video.encode())
        container.mux(audio.encode())
