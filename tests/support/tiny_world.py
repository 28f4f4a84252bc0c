"""A small world-action model with weights at random, and situations to plan in."""

import torch

from system.config import WorldActionConfig
from system.models.world_action import WorldActionModel
from system.types import TokenContext

VOCABULARY, TOKENS, ACTIONS, GAMES = 32, 4, 6, 3
CONFIG = WorldActionConfig(
    context_length=5, width=16, num_layers=2, num_heads=2, q_width=16, num_q_heads=2, num_atoms=11
)
VALID_ACTIONS = torch.tensor([[1, 1, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)


def make_world(config: WorldActionConfig = CONFIG, seed: int = 15) -> WorldActionModel:
    """In evaluation mode, with outputs that differ from input to input; about a third of the steps end."""
    model = WorldActionModel(
        vocabulary=VOCABULARY,
        tokens_per_frame=TOKENS,
        num_actions=ACTIONS,
        num_games=GAMES,
        config=config,
        clones=True,
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        model.end_head[-1].bias += torch.tensor([0.5, 0.0])
    return model


def make_token_context(num_frames: int, seed: int = 0) -> TokenContext:
    """Four environments of three games, the first at its first step, the second at its second."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.ones(4, num_frames, dtype=torch.bool)
    valid[0, : num_frames - 1] = False
    valid[1, : num_frames - 2] = False
    game = torch.tensor([0, 1, 2, 0])
    tokens = torch.randint(VOCABULARY, (4, num_frames, TOKENS), generator=generator)
    actions = torch.randint(ACTIONS, (4, num_frames - 1), generator=generator)
    return TokenContext(tokens * valid[..., None], actions * valid[:, :-1], valid, game, VALID_ACTIONS[game])
