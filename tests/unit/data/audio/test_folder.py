"""Folders of sounds: who goes into which part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.identity import fingerprint
from mlprun.config.stored import from_record
from mlprun.data.audio.folder import audio_folder
from mlprun.data.audio.wav import read_clip
from mlprun.data.source import Examples
from mlprun.errors import ConfigError, DataError
from tests.helpers.sounds import AUDIO, FRAMES, features, save, sine


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
        ("data.audio.f_max=9000", "f_max=9000.0: sound of 16000 samples per second has no such frequency"),
        ("data.audio.f_min=8000", "f_min=8000.0: must be below f_max, 8000 Hz"),
        ("data.audio.num_mels=0", "num_mels=0: must be 1 or more"),
        ("data.audio.num_mels=2000", "num_mels=2000: windows of 25 ms cannot resolve so many bands"),
        ("data.audio.mels=3", "mels=3: there is no such key"),
    ],
)
def test_a_value_that_cannot_work_is_one_clear_error(line, said):
    with pytest.raises(ConfigError) as error:
        check(COMPOSER.compose([*SOUNDS, line]))
    assert said in str(error.value)


LONGER = "2 of 4 sounds are longer than data.audio.seconds=0.5 (up to 2.5 s): only the middle of each is used, and 67 %"
FASTER = (
    "2 of 4 sounds have up to 44,100 samples per second: with data.audio.sample_rate=8000 frequencies above 4000 Hz, "
)
SLOWER = (
    "2 of 4 sounds have down to 4,000 samples per second, so nothing above 2000 Hz: 8 of their 32 mel bands are empty"
)


@pytest.mark.parametrize(
    ("seconds", "rate", "frequency", "warnings"),
    [
        (0.5, 8000, 500, []),
        (0.2, 8000, 500, []),  # padding loses nothing
        (2.5, 8000, 500, [LONGER]),
        (0.5, 44100, 500, [FASTER + "0"]),
        (0.5, 44100, 6000, [FASTER + "100 % of their power"]),
        (0.5, 4000, 500, [SLOWER]),
        (2.5, 4000, 500, [LONGER, SLOWER]),
    ],
)
def test_what_no_example_holds_is_reported(tmp_path, caplog, seconds, rate, frequency, warnings):
    for number in range(2):
        save(tmp_path / "whole" / f"{number}.wav", sine(510 + number))
        save(tmp_path / "other" / f"{number}.wav", sine(frequency + number, rate, seconds), rate)
    audio_folder(tmp_path, AUDIO)
    messages = [record.getMessage() for record in caplog.records]
    assert [given[: len(wanted)] for given, wanted in zip(messages, warnings, strict=True)] == warnings
    assert all(str(tmp_path / "other" / "0.wav") in message for message in messages)
