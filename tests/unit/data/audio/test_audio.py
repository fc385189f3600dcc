"""Sounds: what a spectrogram shows, what is read from WAV files, who goes into which part, and whole runs."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from mlprun.analysis.diff import compare_tensors
from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.identity import fingerprint
from mlprun.config.stored import from_record
from mlprun.course.tones import tones
from mlprun.data.audio.folder import audio_folder
from mlprun.data.audio.mel import Frames, hertz, mel
from mlprun.data.audio.spectrogram import FLOOR, log_mel, mel_filters
from mlprun.data.audio.wav import read_clip
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError, DataError
from mlprun.runs import checkpoint
from tests.helpers.runs import record_of

AUDIO = {
    "sample_rate": 8000, "seconds": 0.5, "num_mels": 32,
    "window_ms": 25.0, "hop_ms": 10.0, "f_min": 20.0, "f_max": None,
}  # fmt: skip
FRAMES = Frames(**AUDIO)


def sine(frequency: float, rate: int = 8000, seconds: float = 0.5, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def features(clip: np.ndarray, frames: Frames = FRAMES) -> torch.Tensor:
    """(num_mels, num_frames), the lowest band first."""
    return log_mel(torch.from_numpy(clip)[None], frames)[0, 0].flip(0)


def loudest(clip: np.ndarray, frames: Frames = FRAMES) -> float:
    """Hz, the middle of the band that is loudest on average."""
    return frames.edges()[int(features(clip, frames).mean(1).argmax()) + 1]


def save(file: Path, sound: np.ndarray, rate: int = 8000) -> Path:
    """`sound` from -1 to 1, as 16 bits."""
    file.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(file, rate, (sound * 32767).astype(np.int16))
    return file


# -------------------------------------------------------------------------------------------- the arithmetic


@settings(deadline=None)
@given(st.floats(0, 20000))
def test_mel_and_hertz_are_inverse_and_1000_hz_are_1000_mel(frequency):
    assert hertz(mel(frequency)) == pytest.approx(frequency, abs=1e-6)
    assert mel(1000) == pytest.approx(1000, abs=0.1)


@pytest.mark.parametrize(
    ("changed", "num_samples", "num_frames"),
    [
        ({}, 4000, 48),  # the last window that lies wholly inside begins at 47 · 80 + 200 = 3960
        ({"seconds": 1.0, "sample_rate": 16000}, 16000, 98),
        ({"seconds": 0.025}, 200, 1),
        ({"hop_ms": 25.0}, 4000, 20),
    ],
)
def test_the_frames_of_a_clip_are_known_without_torch(changed, num_samples, num_frames):
    frames = Frames(**{**AUDIO, **changed})
    assert (frames.num_samples, frames.num_frames) == (num_samples, num_frames)
    assert log_mel(torch.zeros(2, num_samples), frames).shape == (2, *frames.shape)


@settings(deadline=None, max_examples=60)
@given(
    sample_rate=st.sampled_from([8000, 16000, 22050, 44100]), num_mels=st.integers(1, 128), f_min=st.floats(0, 300),
    window_ms=st.floats(15, 60),
)  # fmt: skip
def test_the_filters_cover_the_spectrum_and_none_is_empty(sample_rate, num_mels, f_min, window_ms):
    frames = Frames(
        **{**AUDIO, "sample_rate": sample_rate, "num_mels": num_mels, "f_min": f_min, "window_ms": window_ms}
    )
    filters = mel_filters(frames)
    assert filters.shape == (frames.fft_size // 2 + 1, num_mels)
    assert (filters.sum(0) > 0).all()
    bins = torch.arange(len(filters)) * sample_rate / frames.fft_size
    edges = frames.edges()
    # two neighbours overlap so that each frequency between the middles of the first and last band counts once
    inside = (bins >= edges[1]) & (bins <= edges[-2])
    assert torch.allclose(filters[inside].sum(1), torch.ones(int(inside.sum())), atol=1e-4)
    assert float(filters[(bins <= edges[0]) | (bins >= edges[-1])].sum()) < 1e-6
    assert float(filters.min()) >= 0
    assert float(filters.max()) <= 1


@settings(deadline=None, max_examples=60)
@given(st.floats(100, 3800))
def test_a_pure_tone_is_in_its_band_all_the_time(frequency):
    assert abs(mel(loudest(sine(frequency))) - mel(frequency)) <= 0.51 * (mel(4000) - mel(20)) / 33 + 10
    assert float(features(sine(frequency)).amax(0).std()) < 1.0  # dB from frame to frame


def test_decibels_are_of_full_scale_and_fall_with_the_level():
    frequency = FRAMES.edges()[16]  # the middle of a band
    peak = features(sine(frequency, amplitude=1.0)).max().item()
    assert peak == pytest.approx(0, abs=4)  # the window spreads a sine over some bins of the band
    assert features(sine(frequency, amplitude=0.1)).max().item() == pytest.approx(peak - 20, abs=0.01)


def test_the_top_row_is_the_highest_band_as_in_a_picture():
    picture = log_mel(torch.from_numpy(sine(300))[None], FRAMES)[0, 0]
    assert picture.mean(1).argmax() > 16


def test_silence_is_finite():
    assert (features(np.zeros(4000, np.float32)) == 10 * math.log10(FLOOR)).all()


def test_many_clips_are_what_each_alone_would_be(monkeypatch):
    clips = torch.randn(7, 4000, generator=torch.Generator().manual_seed(0))
    together = log_mel(clips, FRAMES)
    monkeypatch.setattr("mlprun.data.audio.spectrogram.SPECTRUM_VALUES", 2 * FRAMES.num_frames * FRAMES.fft_size)
    assert torch.allclose(log_mel(clips, FRAMES), together, atol=1e-3)
    assert torch.allclose(torch.cat([log_mel(clip[None], FRAMES) for clip in clips]), together, atol=1e-3)


# --------------------------------------------------------------------------------------------------- WAV files


def pcm24(sound: np.ndarray, rate: int) -> bytes:
    """A WAV file of 24 bits, which scipy reads but does not write."""
    values = (sound * (2**23 - 1)).astype("<i4")
    data = values.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 3, 3, 24)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


@pytest.mark.parametrize("kind", ["uint8", "int16", "24 bits", "int32", "float32", "float64", "stereo"])
def test_every_sample_format_gives_the_same_sound(tmp_path, kind):
    file, sound = tmp_path / "a.wav", sine(440)
    if kind == "24 bits":
        file.write_bytes(pcm24(sound, 8000))
    else:
        stored = {
            "uint8": lambda: (128 + 127 * sound).astype(np.uint8),
            "int16": lambda: (32767 * sound).astype(np.int16),
            "int32": lambda: ((2**31 - 1) * sound.astype(np.float64)).astype(np.int32),
            "float32": lambda: sound,
            "float64": lambda: sound.astype(np.float64),
            "stereo": lambda: np.stack([1.5 * sound, 0.5 * sound], 1),
        }[kind]()
        wavfile.write(file, 8000, stored)
    clip, seconds = read_clip(file, FRAMES)
    assert (clip.dtype, clip.shape, seconds) == (np.float32, (4000,), 0.5)
    assert np.abs(clip - sound).max() < (0.02 if kind == "uint8" else 1e-4)


@pytest.mark.parametrize("rate", [6000, 11025, 16000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone_where_it_is(tmp_path, rate):
    clip, _ = read_clip(save(tmp_path / "a.wav", sine(1000, rate), rate), FRAMES)
    assert clip.shape == (4000,)
    assert loudest(clip) == loudest(sine(1000))
    assert np.abs(clip[200:-200]).max() == pytest.approx(0.5, abs=0.02)


def test_what_is_above_half_the_sample_rate_is_not_folded_down(tmp_path):
    clip, _ = read_clip(save(tmp_path / "a.wav", sine(7000, 44100), 44100), FRAMES)
    assert np.abs(clip[200:-200]).max() < 0.01


def test_of_a_long_sound_the_middle_is_kept_and_a_short_one_stands_in_silence(tmp_path):
    clip, seconds = read_clip(save(tmp_path / "long.wav", np.linspace(0, 1, 24001)), FRAMES)
    assert seconds == pytest.approx(3, abs=1e-3)
    assert (clip[0], clip[-1]) == (pytest.approx(10000 / 24000, abs=1e-3), pytest.approx(14000 / 24000, abs=1e-3))
    clip, _ = read_clip(save(tmp_path / "short.wav", np.ones(2000)), FRAMES)
    assert np.flatnonzero(clip).tolist() == list(range(1000, 3000))


GOOD = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as a WAV file"),
        (b"ID3\x03 an mp3 that was renamed", "cannot be read as a WAV file"),
        (riff(GOOD)[:30], "cannot be read as a WAV file"),
        (riff(GOOD), "cannot be read as a WAV file"),  # no sound in it at all
        (
            riff(GOOD.replace(b"\x01\0\x01\0", b"\x07\0\x01\0", 1), b"data\x04\0\0\0abcd"),
            "Unknown wave file format: MULAW",
        ),
        (riff(GOOD, b"data\0\0\0\0"), "holds no sound"),
        (
            riff(GOOD, struct.pack("<4sI", b"data", 8000), b"\1\2" * 4000)[:3001],
            "ends before the sound that it announces: cut off, or written through a pipe",
        ),
        (riff(struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 7, 14, 2, 16), b"data\x04\0\0\0abcd"), "7 samples a second"),
        ("NaN", "NaN or infinite values"),
        ("missing", "cannot be read: No such file"),
    ],
)
def test_a_bad_file_is_one_error_that_names_it(tmp_path, content, said):
    file = tmp_path / "bad.wav"
    if content == "NaN":
        wavfile.write(file, 8000, np.where(np.arange(4000) == 77, np.nan, sine(440)).astype(np.float32))
    elif content != "missing":
        file.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.wav: .*{said}"):
        read_clip(file, FRAMES)


# ----------------------------------------------------------------------------------------------------- folders


def examples(part: object) -> Examples:
    assert isinstance(part, Examples)
    return part


def test_class_folders_also_deeper(tmp_path):
    for speaker, frequency in (("bdl", 200), ("slt", 900)):
        for number in range(3):
            save(tmp_path / f"cmu_us_{speaker}_arctic" / "wav" / f"arctic_a{number:04}.wav", sine(frequency))
    source = audio_folder(tmp_path, AUDIO)
    train = examples(source.train)
    assert source.class_names == ("bdl", "slt")
    assert (source.test, source.val, source.value_range) == (None, None, None)
    assert train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert (train.inputs.shape, train.inputs.dtype) == ((6, *FRAMES.shape), torch.float32)
    assert torch.equal(train.inputs[3, 0].flip(0), features(read_clip(
        tmp_path / "cmu_us_slt_arctic/wav/arctic_a0000.wav", FRAMES)[0]))  # fmt: skip
    assert list(source.fingerprints) == [str(tmp_path)]
    save(tmp_path / "cmu_us_bdl_arctic" / "wav" / "arctic_a0000.wav", sine(200, seconds=0.4))
    assert audio_folder(tmp_path, AUDIO).fingerprints != source.fingerprints


def test_train_and_test_folders(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for name in ("low", "high"):
            for number in range(count):
                save(tmp_path / part / name / f"{number}.wav", sine(500))
    source = audio_folder(tmp_path, AUDIO)
    assert (len(examples(source.train)), len(examples(source.test))) == (6, 4)
    assert len(source.fingerprints) == 2


def speech_commands(root: Path, num_speakers: int = 10) -> Path:
    for word, frequency in (("no", 300), ("yes", 1500)):
        for speaker in range(num_speakers):
            for take in (0, 1):  # the level tells the speaker
                sound = sine(frequency, amplitude=0.05 * (1 + speaker))
                save(root / word / f"{speaker:08x}_nohash_{take}.wav", sound)
    save(root / "_background_noise_" / "doing_the_dishes.wav", sine(50, seconds=9))
    return root


def test_the_lists_of_speech_commands_are_its_parts(tmp_path):
    speech_commands(tmp_path)
    (tmp_path / "testing_list.txt").write_text(
        "no/00000001_nohash_0.wav\nyes/00000001_nohash_0.wav\nbed/ff_nohash_0.wav\n"
    )
    (tmp_path / "validation_list.txt").write_text("yes/00000002_nohash_1.wav\n")
    source = audio_folder(tmp_path, AUDIO)
    assert source.class_names == ("no", "yes")
    assert len(examples(source.train)) == 37
    assert examples(source.test).targets.tolist() == [0, 1]
    assert examples(source.val).targets.tolist() == [1]
    assert len(source.fingerprints) == 3
    everything = "".join(f"{file.relative_to(tmp_path)}\n" for file in tmp_path.glob("*/*.wav"))
    (tmp_path / "validation_list.txt").write_text(everything)
    for split_by in ("none", "name"):
        with pytest.raises(DataError, match="none is left to train on"):
            audio_folder(tmp_path, AUDIO, split_by=split_by)
    (tmp_path / "validation_list.txt").write_text("nothing/here.wav\n")
    with pytest.raises(DataError, match=r"validation_list\.txt: names none of the files"):
        audio_folder(tmp_path, AUDIO)


@pytest.mark.parametrize("seed", [0, 1])
def test_split_by_name_keeps_a_speaker_or_a_sentence_in_one_part(tmp_path, seed):
    """The level tells who it was: of ten, two are for the test and one for val, whatever they say."""
    source = audio_folder(speech_commands(tmp_path), AUDIO, split_by="name", seed=seed)
    parts = [examples(part) for part in (source.train, source.val, source.test)]
    assert [len(part) for part in parts] == [28, 4, 8]
    levels = [{round(float(one.amax()), 1) for one in part.inputs} for part in parts]
    for part in parts:
        assert torch.bincount(part.targets).tolist() == [len(part) // 2] * 2
    assert sum(map(len, levels)) <= 20
    assert not (levels[0] & levels[1] | levels[0] & levels[2] | levels[1] & levels[2])
    again = audio_folder(tmp_path, AUDIO, split_by="name", seed=seed)
    assert torch.equal(examples(again.test).inputs, parts[2].inputs)
    other = audio_folder(tmp_path, AUDIO, split_by="name", seed=seed + 5)
    assert not torch.equal(examples(other.test).inputs, parts[2].inputs)


def test_one_name_alone_cannot_be_split(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / name / "same.wav", sine(500))
    with pytest.raises(DataError, match=r"called same: none can be kept for test\n.*split_by=none"):
        audio_folder(tmp_path, AUDIO, split_by="name")
    with pytest.raises(ConfigError, match="split_by=folder"):
        audio_folder(tmp_path, AUDIO, split_by="folder")


# ------------------------------------------------------------------------------------------------------- config

COMPOSER = Composer()
SOUNDS = ["data=audio_folder", "data.root=folder", "data.num_outputs=2"]


def test_the_shape_of_the_inputs_follows_from_the_keys():
    config = check(
        COMPOSER.compose([*SOUNDS, "data.audio.seconds=2", "data.audio.num_mels=40", "data.audio.hop_ms=20"])
    )
    assert config.data.input_shape == [1, 40, 99]
    assert config.model["input_shape"] == [1, 40, 99]
    assert config.data.dataset["audio"]["num_mels"] == 40
    assert from_record(config.to_dict()) == config


def test_data_that_are_no_sounds_have_no_keys_of_sound():
    config = check(COMPOSER.compose([]))
    assert config.data.audio is None
    older = config.to_dict()
    del older["data"]["audio"]  # a run of before
    assert fingerprint(older) == fingerprint(config.to_dict())
    with pytest.raises(ConfigError, match="there is no such key"):
        COMPOSER.compose(["data.audio.seconds=2"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data.audio.sample_rate=0", "sample_rate=0: must be 1000 or more"),
        ("data.audio.seconds=-1", "seconds=-1.0: must be above 0"),
        ("data.audio.seconds=0.02", "seconds=0.02: is shorter than a window of 25 ms"),
        ("data.audio.hop_ms=0", "hop_ms=0.0: must be above 0"),
        ("data.audio.hop_ms=inf", "hop_ms=inf: must be above 0, and finite"),
        ("data.audio.seconds=inf", "seconds=inf: must be above 0, and finite"),
        ("data.audio.window_ms=0.01", "window_ms=0.01: is 0 samples at 16000 Hz"),
        ("data.audio.f_max=9000", "f_max=9000.0: sound of 16000 samples a second has no such frequency"),
        ("data.audio.f_min=8000", "f_min=8000.0: must be below f_max, 8000 Hz"),
        ("data.audio.num_mels=0", "num_mels=0: must be 1 or more"),
        ("data.audio.num_mels=2000", "num_mels=2000: so many bands cannot be told apart by windows of 25 ms"),
        ("data.audio.mels=3", "mels=3: there is no such key"),
        ("data.augment.flip=true", "is for images: it would play sound backwards"),
    ],
)
def test_a_value_that_cannot_work_is_one_clear_error(line, said):
    with pytest.raises(ConfigError) as error:
        check(COMPOSER.compose([*SOUNDS, line]))
    assert said in str(error.value)


# -------------------------------------------------------------------------------------------------------- tones

TONES = {**AUDIO, "num_mels": 40, "f_min": 100.0}


def test_tones_are_the_same_bits_for_the_same_seed_and_balanced():
    first, second, other = (examples(tones(TONES, 200, seed=seed).train) for seed in (3, 3, 4))
    assert torch.equal(first.inputs, second.inputs)
    assert not torch.equal(first.inputs, other.inputs)
    assert torch.bincount(first.targets).tolist() == [50] * 4
    assert first.inputs.shape == (200, 1, 40, 48)


def test_each_class_of_tones_goes_as_its_name_says():
    source = tones(TONES, 400, snr_db=30, seed=0)
    part = examples(source.train)
    for picture, target in zip(part.inputs[:, 0], part.targets, strict=True):
        there = picture.amax(0) > picture.amax(0).max() - 10
        pitch = 39 - picture.argmax(0)[there]  # band of each frame
        first, middle, last = (float(pitch[round(at * (len(pitch) - 1))]) for at in (0.1, 0.5, 0.9))
        found = "rising" if first < middle < last else "falling" if first > middle > last else (
            "hill" if middle > max(first, last) else "valley")  # fmt: skip
        assert found == source.class_names[target]


def test_the_mean_spectrum_does_not_tell_tones():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    part = examples(tones(TONES, 2000, seed=0).train)
    means = StandardScaler().fit_transform(part.inputs[:, 0].mean(2).numpy())
    model = LogisticRegression(max_iter=500).fit(means[:1500], part.targets[:1500])
    assert model.score(means[1500:], part.targets[1500:]) < 0.33


@pytest.mark.parametrize(("argument", "value"), [("num_samples", 3), ("octaves", 0.0)])
def test_tones_that_cannot_be(argument, value):
    with pytest.raises(ConfigError, match=argument):
        tones(TONES, **{argument: value})


# --------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Two voices, low and high, 40 recordings each, of changing length and rate, in noise."""
    rng = np.random.default_rng(0)
    for name, (low, high) in {"low": (150, 500), "high": (900, 2000)}.items():
        for number in range(40):
            rate = (8000, 11025)[number % 2]
            sound = sine(rng.uniform(low, high), rate, rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.5))
            save(tmp_path / "sounds" / name / f"{number}.wav", sound + 0.01 * rng.standard_normal(len(sound)), rate)
    return tmp_path / "sounds"


LINE = [
    "data=audio_folder", "data.root=sounds", "data.audio.sample_rate=8000", "data.audio.seconds=0.5",
    "data.audio.num_mels=32", "data.dataset.split_by=name", "model=cnn", "model.channels=[4,8]", "model.hidden=[16]",
    "model.dropout=0.2", "batch_size=16", "hydra.run.dir=run",
]  # fmt: skip


def test_a_folder_of_recordings_is_learnt_and_a_file_predicted(mlprun_process, recordings, tmp_path):
    done = mlprun_process(*LINE, "epochs=8", "logging.pictures=[filters,feature_maps,misclassified]")
    assert done.status == 0, done.err
    assert record_of(tmp_path / "run")["metrics"]["test/accuracy"] >= 0.9
    for picture in ("filters", "feature_maps", "misclassified"):
        assert list((tmp_path / "run" / "pictures").glob(f"{picture}*.png"))
    save(tmp_path / "new.wav", sine(1500, 22050, 1.0), 22050)
    asked = mlprun_process("predict", "run", "new.wav", "--json")
    found = json.loads(asked.out)
    assert (found["predicted"], found["picture"]) == ("high", "run/predictions/new.png")
    assert "note: new.wav is 1.00 s long, an example 0.5 s: only its middle is heard" in asked.err
    for word, said in (("none.wav", "there is no such file"), ("sounds", "is a folder: name the sounds in it")):
        refused = mlprun_process("predict", "run", word)
        assert (refused.status, refused.out) == (2, "") or refused.status == 1
        assert refused.err == f"error: {word}: {said}\n"


def test_a_file_of_the_data_set_is_predicted_as_the_run_saw_it(mlprun, recordings, tmp_path):
    assert mlprun(*LINE, "epochs=1").status == 0
    source = audio_folder(recordings, {**AUDIO, "num_mels": 32}, split_by="name")
    assert isinstance(source, Source)
    by_index = [json.loads(line) for line in mlprun("predict", "run", "--index", "0", "--json").out.splitlines()]
    files = sorted(map(str, recordings.glob("high/*.wav")))
    by_file = [json.loads(line) for line in mlprun("predict", "run", *files, "--json").out.splitlines()]
    chances = [each["probabilities"]["high"] for each in by_file]
    assert min(abs(by_index[0]["probabilities"]["high"] - chance) for chance in chances) < 1e-6


def test_a_run_on_sounds_resumes_to_the_same_bits(mlprun, recordings, tmp_path):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    line = [*LINE[:-1], "steps=12", "eval_every=3 steps", "checkpoint.every=2 steps", "checkpoint.keep=2"]
    assert mlprun(*line, f"hydra.run.dir={whole}").status == 0
    assert mlprun(*line, f"hydra.run.dir={parted}", "steps=5").status == 0
    assert mlprun("resume", str(parted), "steps=12").status == 0
    ours, theirs = (checkpoint.load(run / "checkpoints" / "last.pt") for run in (whole, parted))
    assert ours["step"] == theirs["step"] == 12
    for part in ("model", "optimizer"):
        assert compare_tensors(ours[part], theirs[part]) == [], part
    first, second = (record_of(run)["metrics"] for run in (whole, parted))
    assert first == second
