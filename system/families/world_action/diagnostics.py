"""The model's dreams on held-out episodes beside the game: curves, pictures and moving pictures."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from system.config import RunConfig
from system.data.prepared import PreparedData
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.imagined_frames import (
    animate_imagined_clip,
    draw_imagined_frames,
    imagine_clip,
    imagine_frames,
)

NUM_DREAMS = 32
CLIP_FRAMES = 48


def diagnose(
    agent: WorldActionAgent, data: PreparedData, config: RunConfig, folder: Path, stage: str
) -> Mapping[str, np.ndarray]:
    """Dreams beside the game.

    Args:
        agent: in evaluation mode.
        data: whose held-out episodes are dreamt of.
        config: the run's.
        folder: of the pictures, `imagined_STAGE.png` and a GIF for each game.
        stage: `offline` or `online`.

    Returns:
        `tokens`, `unchanged`, `moving` and `rewards` by step ahead; empty of a model that learns no world, and
        where no held-out episode is long enough.
    """
    if data.frames is None or config.method.training.objective != "jowa":
        return {}
    horizon = config.context_length // 2
    imagined = imagine_frames(
        agent, data.validation, data.frames, horizon=horizon, num_starts=NUM_DREAMS, seed=config.seed
    )
    curves: dict[str, np.ndarray] = {}
    if imagined is not None:
        title = f"imagined on held-out episodes of {data.description['id']} ({stage})"
        draw_imagined_frames(imagined, title, folder / f"imagined_{stage}.png")
        shares = {"tokens": imagined.tokens, "unchanged": imagined.unchanged, "moving": imagined.moving}
        curves = {**shares, "rewards": imagined.rewards}
    for task in data.tasks:
        clip = imagine_clip(
            agent,
            data.validation,
            data.frames,
            game=task.game,
            horizon=horizon,
            num_frames=CLIP_FRAMES,
            seed=config.seed,
        )
        if clip is not None:
            name = f"_{task.environment_id.rpartition('/')[2]}" if len(data.tasks) > 1 else ""
            animate_imagined_clip(clip, folder / f"imagined_{stage}{name}.gif")
    return curves
