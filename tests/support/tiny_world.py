"""A small world-action model with weights at random, and situations to plan in."""

import torch

from system.decisions import TokenContext
from system.families.world_action.config import WorldActionConfig
from system.families.world_action.model import WorldActionModel
from system.seeding import torch_generator

VOCABULARY, TOKENS, ACTIONS, GAMES = 32, 4, 6, 3
CONFIG = WorldActionConfig(
    context_length=5, width=16, num_layers=2, num_heads=2, q_width=16, num_q_heads=2, num_atoms=11
)
VALID_ACTIONS = torch.tensor([[1, 1, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)


def make_world(config: WorldActionConfig = CONFIG, seed: int = 1) -> WorldActionModel:
    """In evaluation mode, with outputs that differ from input to input; fewer steps end than go on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WorldActionModel(
            vocabulary=VOCABULARY,
            tokens_per_frame=TOKENS,
            num_actions=ACTIONS,
            num_games=GAMES,
            config=config,
            clones=True,
        ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch_generator(seed, name))
        _balance(model)
    return model


def _balance(model: WorldActionModel) -> None:
    """Makes all classes about equally likely, so that no output is the same wherever one looks."""
    context = make_token_context(3)
    actions = torch.cat([context.actions, context.actions[:, :1]], dim=1)
    hidden = model(context.tokens, actions, context.game).flatten(0, 2)
    for head in (model.token_head.head, model.reward_head, model.end_head):
        head[-1].bias -= head(hidden).mean(dim=0)
    model.end_head[-1].bias[0] += 0.2
    # So that about half of the tokens stay as they are.
    stays = model.token_head
    largest = stays.head(hidden).softmax(dim=-1).amax(dim=-1).log()
    stays.bias += (largest - hidden @ stays.weight - stays.bias).median()


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
