"""Tokenizers and tokens are made once, found again, and made again where the cache is damaged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from configs import with_method, world_config

from system.config import RunConfig
from system.data.store.episodes import EpisodeStore
from system.errors import CheckpointError
from system.families.world_action.config import TokenizerConfig
from system.families.world_action.frame_tokenizer import FrameTokenizer
from system.families.world_action.tokens import encode_store, prepare_tokenizer
from system.types import Episode

TOKENIZER = TokenizerConfig(vocabulary=16, tokens_per_side=2, update_steps=4, batch_size=4)
CONFIG = world_config(tokenizer=TOKENIZER)


def frames_of(seed: int = 0) -> EpisodeStore:
    generator = np.random.default_rng(seed)
    episodes = [
        Episode(
            observations=generator.integers(256, size=(steps + 1, 8, 8)).astype(np.uint8),
            actions=generator.integers(4, size=steps),
            rewards=generator.random(steps).astype(np.float32),
            terminated=True,
            truncated=False,
            complete=True,
            game=index,
        )
        for index, steps in enumerate((7, 5))
    ]
    return EpisodeStore.from_episodes(episodes, discount=0.9)


def prepare(
    folder: Path, config: RunConfig = CONFIG, frames: EpisodeStore | None = None, **options: object
) -> tuple[FrameTokenizer, int]:
    """The tokenizer, and how many update steps it took."""
    steps: list[int] = []
    stored = frames_of() if frames is None else frames
    tokenizer = prepare_tokenizer(stored, config, folder, lambda done, total: steps.append(done), **options)
    return tokenizer, len(steps)


def same_weights(first: FrameTokenizer, second: FrameTokenizer) -> bool:
    state = second.state_dict()
    return all(torch.equal(value, state[name]) for name, value in first.state_dict().items())


def test_a_tokenizer_is_trained_once(tmp_path: Path) -> None:
    (trained, steps), (found, again) = prepare(tmp_path), prepare(tmp_path)
    assert (steps, again) == (TOKENIZER.update_steps, 0)
    assert same_weights(trained, found)
    assert not found.training


@pytest.mark.parametrize(
    "changed",
    [
        {"config": replace(CONFIG, seed=1)},
        {"config": with_method(CONFIG, tokenizer=replace(TOKENIZER, moving_share=0.1))},
        {"frames": frames_of(seed=1)},
    ],
    ids=["seed", "settings", "frames"],
)
def test_what_it_follows_from_is_what_it_is_found_by(tmp_path: Path, changed: dict) -> None:
    first, _ = prepare(tmp_path)
    other, steps = prepare(tmp_path, **changed)
    assert steps == TOKENIZER.update_steps
    assert not same_weights(first, other)


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    prepare(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_training_starts_from_a_given_tokenizer(tmp_path: Path) -> None:
    given, _ = prepare(tmp_path, replace(CONFIG, seed=3))
    state = {name: value.clone() for name, value in given.state_dict().items()}
    further, steps = prepare(tmp_path, start_from=state)
    assert steps == TOKENIZER.update_steps
    assert all(torch.equal(value, state[name]) for name, value in given.state_dict().items())
    assert prepare(tmp_path, start_from=state)[1] == 0
    anew, steps = prepare(tmp_path)
    assert steps == TOKENIZER.update_steps
    assert torch.equal(anew.mean_patches, further.mean_patches)
    assert not torch.equal(anew.mean_patches, given.mean_patches)
    assert not torch.equal(anew.codes, further.codes)


def test_weights_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    other = FrameTokenizer(replace(TOKENIZER, vocabulary=17), (8, 8))
    with pytest.raises(CheckpointError, match="the tokenizer to start from"):
        prepare(tmp_path, start_from=other.state_dict())


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    first, _ = prepare(tmp_path)
    (file,) = tmp_path.glob("tokenizer-*/*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    second, steps = prepare(tmp_path)
    assert steps == TOKENIZER.update_steps
    assert same_weights(first, second)
    assert prepare(tmp_path)[1] == 0


def test_a_stopped_training_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "cache", stop_if_asked=stop)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_tokens_take_the_place_of_frames(tmp_path: Path) -> None:
    frames, (tokenizer, _) = frames_of(), prepare(tmp_path)
    store = encode_store(tokenizer, frames, tmp_path)
    assert store.observations.dtype == np.int16
    tokens = tokenizer.encode(torch.tensor(frames.observations), torch.tensor(frames.game_of_observations()))
    assert np.array_equal(store.observations, tokens.numpy())
    assert store.game.tolist() == [0, 1]
    for name in ("actions", "rewards", "lengths", "terminated", "returns_to_go"):
        assert np.array_equal(getattr(store, name), getattr(frames, name))


def test_frames_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, (tokenizer, _) = frames_of(), prepare(tmp_path)
    first = np.array(encode_store(tokenizer, frames, tmp_path).observations)
    calls: list[int] = []
    perceive = FrameTokenizer.perceive

    def counted(self: FrameTokenizer, rows: np.ndarray, games: np.ndarray) -> np.ndarray:
        calls.append(len(rows))
        return perceive(self, rows, games)

    monkeypatch.setattr(FrameTokenizer, "perceive", counted)
    assert np.array_equal(encode_store(tokenizer, frames, tmp_path).observations, first)
    assert calls == []
    other, _ = prepare(tmp_path, replace(CONFIG, seed=1))
    encode_store(other, frames, tmp_path)
    encode_store(tokenizer, frames_of(seed=1), tmp_path)
    assert calls == [14, 14]
    for file in tmp_path.glob("tokens-*/observations.npy"):
        file.write_bytes(file.read_bytes()[:-2])
    assert np.array_equal(encode_store(tokenizer, frames, tmp_path).observations, first)
    assert calls == [14, 14, 14]


def test_tokens_of_a_selection_keep_their_episodes(tmp_path: Path) -> None:
    frames, (tokenizer, _) = frames_of(), prepare(tmp_path)
    whole = encode_store(tokenizer, frames, tmp_path)
    second = encode_store(tokenizer, frames.select([1]), tmp_path)
    assert np.array_equal(second.observations, whole.observations[8:])
    assert np.array_equal(second.actions, frames.actions[7:])
