"""The frame tokenizer: its codes, its training on small moving dots, and the measure of what it keeps."""

from collections.abc import Sized
from dataclasses import replace

import numpy as np
import pytest
import torch
from moving_dots import CONFIG, SIDE, moving_dot, store_of

from system.data.store.episodes import EpisodeStore
from system.errors import ConfigError
from system.families.world_action.config import TokenizerConfig
from system.families.world_action.frame_tokenizer import CHUNK_PATCHES, FrameTokenizer
from system.families.world_action.tokenizer_quality import tokenizer_quality
from system.families.world_action.tokenizer_training import (
    DECAY,
    choose_patches,
    draw_patches,
    draw_rows,
    restart_idle_codes,
    rows_with_predecessor,
    train_tokenizer,
    update_codes,
)


def no_game(frames: Sized) -> torch.Tensor:
    """Game 0 for every frame."""
    return torch.zeros(len(frames), dtype=torch.int64)


def new_tokenizer(config: TokenizerConfig = CONFIG, shape: tuple[int, int] = (SIDE, SIDE)) -> FrameTokenizer:
    torch.manual_seed(0)
    return FrameTokenizer(config, shape)


def train(
    tokenizer: FrameTokenizer,
    config: TokenizerConfig = CONFIG,
    seed: int = 0,
    frames: EpisodeStore | None = None,
) -> FrameTokenizer:
    stored = store_of(moving_dot(400, 1), moving_dot(300, 2)) if frames is None else frames
    nothing = {"progress": lambda done, total: None, "stop_if_asked": lambda: None}
    train_tokenizer(tokenizer, stored, config, seed=seed, **nothing)
    return tokenizer


@pytest.fixture(scope="module")
def trained() -> FrameTokenizer:
    return train(new_tokenizer())


# --- codes ---


def test_a_token_is_the_nearest_code() -> None:
    tokenizer = new_tokenizer()
    residuals = torch.rand(50, 16, generator=torch.Generator().manual_seed(1)) - 0.5
    distances = (residuals.unsqueeze(1) - tokenizer.codes).square().sum(-1)
    tokens, errors = tokenizer.nearest(residuals)
    assert torch.equal(tokens, distances.argmin(1))
    assert torch.allclose(errors, distances.amin(1), atol=1e-5)


def test_frames_made_of_codes_come_back() -> None:
    tokenizer = new_tokenizer()
    tokenizer.set_mean_frame(0, torch.full((SIDE, SIDE), 0.5))
    tokens = torch.randint(40, (7, 9), generator=torch.Generator().manual_seed(2))
    frames = tokenizer.decode(tokens, no_game(tokens))
    assert frames.shape == (7, SIDE, SIDE)
    assert torch.equal(tokenizer.encode((frames * 255.0).round().to(torch.uint8), no_game(frames)), tokens)


def test_what_is_decoded_can_be_shown() -> None:
    tokenizer = new_tokenizer()
    tokenizer.codes.mul_(100.0)
    tokens = torch.arange(40).unsqueeze(1).repeat(1, 9)
    frames = tokenizer.decode(tokens, no_game(tokens))
    assert (float(frames.min()), float(frames.max())) == (0.0, 1.0)


def test_a_token_stands_for_its_own_patch_row_by_row(trained: FrameTokenizer) -> None:
    frames = torch.from_numpy(moving_dot(1, 0).observations)[:1].repeat(2, 1, 1)
    frames[1, 4:8, 8:12] = 230  # the patch of row 1, column 2
    tokens = trained.encode(frames, no_game(frames))
    assert tokens.shape == (2, 9)
    assert torch.nonzero(tokens[0] != tokens[1]).flatten().tolist() == [5]


def test_patches_of_oblong_frames_go_back_to_their_places() -> None:
    tokenizer = new_tokenizer(CONFIG, (6, 12))
    frames = torch.rand(4, 6, 12)
    patches = tokenizer.to_patches(frames)
    assert patches.shape == (4, 9, 8)
    assert torch.equal(patches[:, 5], frames[:, 2:4, 8:12].flatten(1))
    assert torch.equal(tokenizer.to_frames(patches), frames)


def test_tokens_do_not_depend_on_the_frames_beside() -> None:
    tokenizer = new_tokenizer(TokenizerConfig(), (84, 84))
    tokenizer.set_mean_frame(0, torch.full((84, 84), 0.5))
    frames = torch.randint(256, (13, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    games = no_game(frames)
    together = tokenizer.encode(frames, games)
    assert len(together.unique()) > 100
    alone = [tokenizer.encode(frames[i : i + 1], games[:1]) for i in range(len(frames))]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together.flip(0), tokenizer.encode(frames.flip(0), games))
    assert tokenizer.encode(frames[:0], games[:0]).shape == (0, 36)


def looked_up(tokenizer: FrameTokenizer, frames: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many patches each pass of `encode` takes."""
    sizes: list[int] = []
    nearest = FrameTokenizer.nearest

    def counted(self: FrameTokenizer, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(patches))
        return nearest(self, patches)

    with monkeypatch.context() as patched:
        patched.setattr(FrameTokenizer, "nearest", counted)
        tokenizer.encode(frames, no_game(frames))
    return sizes


def test_every_pass_has_the_same_size_and_what_stands_still_none(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.randint(256, (40, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    passes = {count: looked_up(new_tokenizer(), frames[:count], monkeypatch) for count in (1, 16, 40)}
    assert passes == {1: [CHUNK_PATCHES], 16: [CHUNK_PATCHES], 40: [CHUNK_PATCHES] * 3}
    assert len(looked_up(new_tokenizer(), frames[:1].repeat(500, 1, 1), monkeypatch)) == 1


def test_frames_that_partly_stand_still_have_the_tokens_they_have_alone(trained: FrameTokenizer) -> None:
    frames = torch.tensor(moving_dot(60, 8).observations)
    frames = torch.cat([frames, frames[-1:], frames[-1:], frames[:1]])
    alone = [trained.encode(frames[index : index + 1], no_game(frames[:1])) for index in range(len(frames))]
    assert torch.equal(trained.encode(frames, no_game(frames)), torch.cat(alone))


def test_arrays_are_perceived_as_small_integers(trained: FrameTokenizer) -> None:
    frames = moving_dot(20, 3).observations
    games = np.zeros(len(frames), np.int64)
    tokens = trained.perceive(frames, games)
    assert tokens.dtype == np.int16
    assert np.array_equal(tokens, trained.encode(torch.tensor(frames), torch.tensor(games)).numpy())
    assert trained.perceive(frames[:0], games[:0]).shape == (0, 9)


def test_what_a_frame_shows_beyond_its_own_game_is_encoded_and_decoded() -> None:
    tokenizer = new_tokenizer()
    grey = {5: 60, 2: 180}
    for game, level in grey.items():
        tokenizer.set_mean_frame(game, torch.full((SIDE, SIDE), level / 255))
    games = torch.tensor([5, 2, 2, 5, 7])
    tokens = torch.randint(40, (4, 9), generator=torch.Generator().manual_seed(3))
    frames = (tokenizer.decode(tokens, games[:4]) * 255.0).round().to(torch.uint8)
    assert torch.equal(tokenizer.encode(frames, games[:4]), tokens)
    # The same look in another game, right behind, is another token: the background of neither is anything.
    background = torch.stack([torch.full((SIDE, SIDE), grey.get(game, 0)) for game in games.tolist()]).byte()
    shown = tokenizer.encode(background, games)
    assert len(shown.unique()) == 1
    same_look = background[:1].repeat(2, 1, 1)
    assert not torch.equal(*tokenizer.encode(same_look, torch.tensor([5, 2])))


def test_a_grid_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.tokens_per_side: 5"):
        FrameTokenizer(TokenizerConfig(tokens_per_side=5), (84, 84))


# --- training ---


def test_a_moving_dot_survives_training(trained: FrameTokenizer) -> None:
    held_out = store_of(moving_dot(200, 9))
    before, after = tokenizer_quality(new_tokenizer(), held_out), tokenizer_quality(trained, held_out)
    assert before.small_recall < 0.5
    assert after.small_recall > 0.9
    assert after.small_precision > 0.9
    assert after.mean_error < 1.0


def test_patches_that_move_are_learnt_first() -> None:
    """Of as few codes as there are places for the dot, none is left for it if all patches count alike."""
    scarce = replace(CONFIG, vocabulary=12)
    noisy = [moving_dot(200, seed) for seed in (1, 2)]
    for episode in noisy:  # a slow drift, too weak for motion, that codes could be spent on
        drift = (np.linspace(0.0, 60.0, 201)[:, None] + np.linspace(0.0, 20.0, SIDE)).astype(np.uint8)
        episode.observations[:, :, 0] += drift
    held_out = store_of(noisy[0])
    recalls = []
    for share in (0.0, 1.0):
        tokenizer = train(new_tokenizer(scarce), replace(scarce, moving_share=share), frames=store_of(*noisy))
        recalls.append(tokenizer_quality(tokenizer, held_out).small_recall)
    assert recalls[1] > recalls[0] + 0.1


def test_training_is_decided_by_its_seed() -> None:
    config = replace(CONFIG, update_steps=3)
    first, again, other = (train(new_tokenizer(), config, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["codes"], other["codes"])


def test_a_trained_tokenizer_keeps_the_meaning_of_its_codes(trained: FrameTokenizer) -> None:
    frames = torch.from_numpy(moving_dot(30, 7).observations.copy())
    further = new_tokenizer()
    further.load_state_dict(trained.state_dict())
    train(further, replace(CONFIG, update_steps=20), seed=5)
    games = no_game(frames)
    assert (further.encode(frames, games) == trained.encode(frames, games)).float().mean() > 0.9
    assert not torch.equal(further.codes, trained.codes)


def test_each_game_has_a_mean_frame_and_background_is_nothing_in_all() -> None:
    bright = moving_dot(200, 2, game=9)
    bright.observations[:] = np.minimum(bright.observations + np.uint8(90), 255)
    trained = train(new_tokenizer(), frames=store_of(moving_dot(200, 1, game=4), bright))
    means = trained.to_frames(trained.mean_patches)
    frames = [torch.from_numpy(each.observations).float() for each in (moving_dot(200, 1), bright)]
    shown = torch.stack([each.mean(0) / 255 for each in frames])
    assert torch.allclose(means[[4, 9]], shown, atol=0.03)
    assert not bool(means[[*range(4), *range(5, 9)]].any())
    further = new_tokenizer()
    further.load_state_dict(trained.state_dict())
    train(further, replace(CONFIG, update_steps=2), frames=store_of(moving_dot(50, 3, game=7)))
    assert torch.equal(further.mean_patches[[4, 9]], trained.mean_patches[[4, 9]])
    assert bool(further.mean_patches[7].any())


def test_progress_and_the_wish_to_stop_are_heard_each_step() -> None:
    heard: list[tuple[int, int]] = []

    def stop() -> None:
        if len(heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(
            new_tokenizer(),
            store_of(moving_dot(30, 0)),
            CONFIG,
            seed=0,
            progress=lambda done, total: heard.append((done, total)),
            stop_if_asked=stop,
        )
    assert heard == [(1, 60), (2, 60)]


def test_codes_are_moving_averages_of_their_patches() -> None:
    tokenizer = new_tokenizer()
    tokenizer.codes.zero_()
    tokenizer.codes[3] = 1.0
    tokenizer.usage[:4] = 0.5
    before = tokenizer.usage.clone()
    patches = torch.cat([torch.full((6, 16), 0.9), torch.full((2, 16), 0.1)])
    errors = update_codes(tokenizer, patches)
    assert torch.allclose(errors, torch.tensor([0.16] * 6 + [0.16] * 2), atol=1e-5)
    share = (1.0 - DECAY) * 6 / 8
    usage = DECAY * 0.5 + share
    assert tokenizer.usage[3] == pytest.approx(usage)
    assert torch.allclose(tokenizer.codes[3], torch.full((16,), (DECAY * 0.5 + share * 0.9) / usage))
    assert torch.equal(tokenizer.usage[4:], before[4:])
    assert torch.equal(tokenizer.codes[4:], torch.zeros(36, 16))


def test_idle_codes_are_put_on_the_worst_patches() -> None:
    tokenizer = new_tokenizer()
    tokenizer.usage.fill_(1.0 / 40)
    tokenizer.usage[[5, 8]] = 0.0
    before = tokenizer.codes.clone()
    patches = torch.rand(80, 16, generator=torch.Generator().manual_seed(0))
    errors = torch.zeros(80)
    errors[[2, 70]] = 1.0
    restart_idle_codes(tokenizer, patches, errors, np.random.default_rng(0))
    placed = {tuple(code.tolist()) for code in tokenizer.codes[[5, 8]]}
    assert placed == {tuple(patch.tolist()) for patch in patches[[2, 70]]}
    changed = torch.nonzero((tokenizer.codes != before).any(1)).flatten().tolist()
    assert changed == [5, 8]
    assert (tokenizer.usage > 0.0).all()


def test_patches_come_from_where_something_changed() -> None:
    tokenizer = new_tokenizer()
    tokenizer.set_mean_frame(0, torch.full((SIDE, SIDE), 100 / 255))
    previous = torch.full((3, SIDE, SIDE), 100, dtype=torch.uint8)
    frames = previous.clone()
    frames[1, 5, 6] = 151
    frames[2, 0, 0] = 104  # too little to be motion
    patches = draw_patches(tokenizer, frames, previous, no_game(frames), 1.0, np.random.default_rng(0))
    expected = torch.zeros(16)
    expected[1 * 4 + 2] = 51 / 255
    assert torch.allclose(patches, expected.expand(48, 16), atol=1e-6)


def test_a_share_of_the_patches_is_of_those_that_moved() -> None:
    moved = np.zeros(1000, bool)
    moved[[3, 7]] = True
    chosen = choose_patches(moved, 400, 0.75, np.random.default_rng(0))
    assert len(chosen) == 400
    assert 300 <= moved[chosen].sum() < 310
    assert len(choose_patches(np.zeros(10, bool), 400, 0.75, np.random.default_rng(0))) == 400


def test_frames_have_predecessors_and_games_have_equal_shares() -> None:
    frames = store_of(moving_dot(3, 0, game=5), moving_dot(2, 1, game=5), moving_dot(40, 2, game=2))
    rows = rows_with_predecessor(frames)
    assert rows[1].tolist() == [1, 2, 3, 5, 6]
    assert rows[0].tolist() == list(range(8, 48))
    drawn = draw_rows(rows, 101, np.random.default_rng(0))
    assert len(drawn) == 101
    assert np.isin(drawn, rows[0]).sum() in (50, 51)
