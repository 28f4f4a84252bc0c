"""From frames to tokens: the tokenizer is trained once for a dataset, and every frame is encoded once.

Both are kept in the cache folder under a digest of all that they follow from, so that a run that is started
again, or another one with the same data, seed and tokenizer settings, finds them there.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from system.config import RunConfig
from system.data.prepared import PreparedData
from system.data.store.column_files import new_folder
from system.data.store.episodes import EpisodeStore
from system.errors import CheckpointError, DataError
from system.families.world_action.frame_tokenizer import FrameTokenizer
from system.families.world_action.tokenizer_training import train_tokenizer
from system.models.devices import resolve_device
from system.sealed_folder import mark_complete, read_files, write_files
from system.seeding import derive_seed

# To be raised when the same data and settings come to give another tokenizer, or a tokenizer other tokens.
TOKENIZER_VERSION = 2
WEIGHTS = "tokenizer.safetensors"
CHUNK_FRAMES = 4096


def tokenize(
    data: PreparedData,
    config: RunConfig,
    cache_folder: Path,
    *,
    resumed: Mapping[str, torch.Tensor] | None,
    begun_with: Mapping[str, torch.Tensor] | None,
    progress: Callable[[int, int], None],
    stop_if_asked: Callable[[], None],
) -> PreparedData:
    """The same data with tokens in place of frames.

    Args:
        data: with frames as observations.
        config: the tokenizer's settings.
        cache_folder: where tokenizer and tokens are kept.
        resumed: a learner's state whose model knows a tokenizer, which is kept; None trains one.
        begun_with: a learner's state whose tokenizer is kept, trained further or left, as `start` says.
        progress, stop_if_asked: as in `prepare_tokenizer`.

    Raises:
        CheckpointError: the weights are not of a tokenizer with these settings.
    """
    shape, device = data.task.frame_shape, resolve_device(config)
    assert shape is not None, "the family serves tasks with frames alone"
    start = config.method.tokenizer.start
    kept = resumed if resumed is not None else (begun_with if start == "kept" else None)
    if kept is not None:
        tokenizer = restore_tokenizer(_tokenizer_weights(kept), config, shape).to(device)
    else:
        known = _tokenizer_weights(begun_with) if begun_with is not None and start == "tuned" else None
        tokenizer = prepare_tokenizer(
            data.training, config, cache_folder, progress, known, device=device, stop_if_asked=stop_if_asked
        )
    return replace(
        data,
        training=encode_store(tokenizer, data.training, cache_folder),
        validation=encode_store(tokenizer, data.validation, cache_folder),
        frames=data.validation,
        foundation={name: value.cpu() for name, value in tokenizer.state_dict().items()},
    )


def _tokenizer_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those that a checkpoint's model was trained with."""
    prefix = "agent.tokenizer."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def prepare_tokenizer(
    frames: EpisodeStore,
    config: RunConfig,
    cache_folder: Path,
    progress: Callable[[int, int], None],
    start_from: Mapping[str, torch.Tensor] | None = None,
    *,
    device: torch.device | str = "cpu",
    stop_if_asked: Callable[[], None] = lambda: None,
) -> FrameTokenizer:
    """The tokenizer of these frames: from the cache, or trained and put there.

    Args:
        frames: the training episodes, with uint8 frames as observations.
        config: the tokenizer's settings and the run's seed.
        cache_folder: made if it is not there.
        progress: told (update steps done, update steps in all) while it trains.
        start_from: state of a trained tokenizer of the same grid and vocabulary, whose codes keep their meaning
            as far as they are used in these frames too; None starts anew.
        device: where it is returned; it is trained on the CPU.
        stop_if_asked: called between update steps; may raise, and nothing is cached then.

    Returns:
        The tokenizer, in evaluation mode.

    Raises:
        ConfigError: the settings do not fit the frames.
        CheckpointError: `start_from` is not of such a tokenizer.
    """
    height, width = frames.observations.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "weights", "tokenizer"))
        tokenizer = FrameTokenizer(config.method.tokenizer, (height, width))
    if start_from is not None:
        _load_weights(tokenizer, start_from, "the tokenizer to start from")
    folder = cache_folder / f"tokenizer-{_tokenizer_key(tokenizer, frames, config)}"
    if not _read_cached(tokenizer, folder):
        train_tokenizer(
            tokenizer,
            frames,
            config.method.tokenizer,
            seed=config.seed,
            progress=progress,
            stop_if_asked=stop_if_asked,
        )
        with new_folder(folder) as aside:
            write_files(aside, {WEIGHTS: save_tensors(_weights(tokenizer))}, {"torch": torch.__version__})
            mark_complete(aside)
    return tokenizer.to(device).eval()


def restore_tokenizer(
    weights: Mapping[str, torch.Tensor], config: RunConfig, frame_shape: tuple[int, int]
) -> FrameTokenizer:
    """The tokenizer that a checkpoint's model was trained with, frozen and in evaluation mode.

    Args:
        weights: its state.
        config: its settings.
        frame_shape: height and width.

    Raises:
        CheckpointError: the weights are not of a tokenizer with these settings.
    """
    tokenizer = FrameTokenizer(config.method.tokenizer, frame_shape)
    _load_weights(tokenizer, weights, "the checkpoint's tokenizer")
    return tokenizer.requires_grad_(False).eval()


def encode_store(tokenizer: FrameTokenizer, store: EpisodeStore, cache_folder: Path) -> EpisodeStore:
    """The same episodes with int16 tokens [K] in place of uint8 frames.

    Args:
        tokenizer: encodes.
        store: with frames as observations.
        cache_folder: where the tokens are kept for memory mapping; made if it is not there.
    """
    digest = hashlib.sha256(save_tensors(_weights(tokenizer)))
    digest.update(json.dumps([TOKENIZER_VERSION, _digest(store)]).encode())
    folder = cache_folder / f"tokens-{digest.hexdigest()[:32]}"
    cached = _cached_tokens(folder)
    if cached is None:
        frames, games = store.observations, store.game_of_observations()
        parts = (slice(first, first + CHUNK_FRAMES) for first in range(0, len(frames), CHUNK_FRAMES))
        encoded = [tokenizer.perceive(frames[part], games[part]) for part in parts]
        nothing = np.zeros((0, tokenizer.num_tokens), np.int16)
        store.with_observations(np.concatenate([nothing, *encoded])).save(folder)
        cached = EpisodeStore.open(folder)
    return store.with_observations(np.asarray(cached.observations))


def _tokenizer_key(tokenizer: FrameTokenizer, frames: EpisodeStore, config: RunConfig) -> str:
    """A digest of what training follows from; the initial state stands for `start_from`."""
    initial = hashlib.sha256(save_tensors(_weights(tokenizer))).hexdigest()
    parts = [TOKENIZER_VERSION, initial, _digest(frames), asdict(config.method.tokenizer), config.seed]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _digest(store: EpisodeStore) -> str:
    """Of the frames and of what tells one episode from the next."""
    digest = hashlib.sha256(json.dumps([store.observations.shape, str(store.observations.dtype)]).encode())
    for column in (store.lengths, store.game):
        digest.update(np.ascontiguousarray(column).tobytes())
    for first in range(0, len(store.observations), CHUNK_FRAMES):
        digest.update(np.ascontiguousarray(store.observations[first : first + CHUNK_FRAMES]).tobytes())
    return digest.hexdigest()


def _weights(tokenizer: FrameTokenizer) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tokenizer.state_dict().items()}


def _load_weights(tokenizer: FrameTokenizer, weights: Mapping[str, torch.Tensor], source: str) -> None:
    try:
        tokenizer.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{source}: not a tokenizer with these settings ({reason})") from None


def _read_cached(tokenizer: FrameTokenizer, folder: Path) -> bool:
    """Loads the weights that lie there; a damaged cache counts as none, for all in it can be made again."""
    try:
        _load_weights(tokenizer, load_tensors(read_files(folder)[WEIGHTS]), str(folder))
    except (CheckpointError, SafetensorError, KeyError):
        return False
    return True


def _cached_tokens(folder: Path) -> EpisodeStore | None:
    """The tokens that lie there; a damaged cache counts as none."""
    try:
        return EpisodeStore.open(folder)
    except DataError:
        return None
