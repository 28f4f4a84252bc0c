"""What the comparison of representations trains: the pretrained model only where it is to learn on."""

import json
import sys
from pathlib import Path

import pytest
import torch

from system.api import load_config, load_dataset
from system.cli.main import main
from system.config import RunConfig
from system.data.prepared import PreparedData
from system.families.registry import family_of
from system.runs.saved_agent import SavedAgent, open_agent
from tests.benchmarks import representations
from tests.support.tiny_families import write_gradient_config
from tests.support.tiny_runs import write_tiny_config

Parts = tuple[SavedAgent, PreparedData, RunConfig]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a pretrained masked model, and the configuration of a policy with critics on the same data."""
    folder = tmp_path_factory.mktemp("representations")
    config = write_tiny_config(folder)
    assert main(["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    write_gradient_config(folder).rename(folder / "gradient.yaml")
    return folder


@pytest.fixture(scope="module")
def parts(folder: Path) -> Parts:
    config = load_config(folder / "gradient.yaml")
    return open_agent(folder / "run", device="cpu"), load_dataset(config), config


@pytest.mark.parametrize("inputs", representations.INPUTS)
def test_the_pretrained_model_learns_only_where_it_is_tuned(inputs: str, parts: Parts) -> None:
    saved, data, config = parts
    learner = representations.Learner(inputs, saved, data, config, seed=0)
    encoder = [] if inputs == representations.RAW else list(learner.networks.encoder.model.parameters())
    of_encoder = [each.detach().clone() for each in encoder]
    networks = learner.networks
    before = [each.detach().clone() for each in (*networks.policy.parameters(), *networks.critics.parameters())]
    learner.fit(3)
    after = (*networks.policy.parameters(), *networks.critics.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    changed = any(not torch.equal(a, b) for a, b in zip(of_encoder, encoder, strict=True))
    assert changed == (inputs == representations.FINE_TUNED)
    given = zip(saved.agent.parameters(), open_agent(saved.path, device="cpu").agent.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in given), "the next kind of inputs begins with the same model"


def test_critics_read_what_the_model_makes_of_both_where_they_are_joint(parts: Parts) -> None:
    saved, data, config = parts
    encode = family_of(saved.config).encode
    for name in ("states", "state_actions"):
        learner = representations.Learner(name, saved, data, config, seed=0)
        batch = learner.batch(4000)
        observations, actions = torch.from_numpy(batch.observations), torch.from_numpy(batch.actions)
        with torch.no_grad():
            found = encode(saved.agent, observations, actions if name == "state_actions" else None)
            read = learner.networks.critic_inputs(observations, actions)
        assert read.shape[-1] == found.shape[-1] + actions.shape[-1]
        torch.testing.assert_close(read[:, -actions.shape[-1] :], actions)
        varies = found.std(0) > 10 * representations.SMALLEST_STD
        expected = ((found - found.mean(0)) / found.std(0))[:, varies]
        torch.testing.assert_close(read[:, : -actions.shape[-1]][:, varies], expected, rtol=0.2, atol=0.2)


def test_every_kind_of_inputs_is_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [str(folder / "run"), "--config", str(folder / "gradient.yaml"), "--updates", "2", "--times", "1"]
    output = folder / "found.jsonl"
    monkeypatch.setattr(sys, "argv", ["representations.py", *words, "--episodes", "1", "--output", str(output)])
    monkeypatch.chdir(folder)
    representations.main()
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["inputs"] for line in lines] == list(representations.INPUTS)
    assert {line["update_steps"] for line in lines} == {2}
