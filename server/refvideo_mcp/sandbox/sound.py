"""The sound track: a soft chord for `bgm`, a plucked note each second for `audio`."""

import math
from array import array
from functools import cache
from random import Random

from .clip import Clip

SAMPLE_RATE = 24000

_CHORDS = ((220, 262, 330, 392), (196, 247, 294, 370), (175, 220, 262, 330), (147, 220, 262, 349))
_SCALE = (440, 494, 523, 587, 659, 784)
_FADE = SAMPLE_RATE // 2


def samples(clip: Clip) -> "array[int]":
    """`seconds` of mono sound, 16 bits signed, 24 000 samples a second."""
    random = Random(clip.seed)
    # Whole hertz: one second of the chord fits every second.
    wave = (_chord(random.choice(_CHORDS)) if clip.bgm else array("d", bytes(8 * SAMPLE_RATE))) * clip.seconds
    for place in range(_FADE):
        wave[place] *= place / _FADE
        wave[-1 - place] *= place / _FADE
    if clip.audio:
        for second in range(clip.seconds):
            for place, value in enumerate(_note(random.choice(_SCALE)), second * SAMPLE_RATE):
                wave[place] += value
    return array("h", (int(32767 * value) for value in wave))


def _chord(tones: tuple[int, ...]) -> "array[float]":
    turns = [math.tau * tone / SAMPLE_RATE for tone in tones]
    return array("d", (0.04 * sum(math.sin(turn * step) for turn in turns) for step in range(SAMPLE_RATE)))


@cache
def _note(tone: int) -> "array[float]":
    turn = math.tau * tone / SAMPLE_RATE
    fall = (0.22 * math.exp(-5 * step / SAMPLE_RATE) * (1 - step / SAMPLE_RATE) for step in range(SAMPLE_RATE))
    # The first 200 samples rise: a note that begins at once clicks.
    return array("d", (min(1.0, step / 200) * gain * math.sin(turn * step) for step, gain in enumerate(fall)))
