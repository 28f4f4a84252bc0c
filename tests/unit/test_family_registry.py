"""Families under one roof: summaries know policies by name, so that a name means one thing."""

from dataclasses import replace

import pytest

from system.config.registry import FAMILIES
from system.errors import ConfigError
from system.families.registry import Family, PolicyTraits, register_family


def test_a_policy_of_another_familys_name_and_other_traits_is_refused() -> None:
    known = FAMILIES["masked_trajectory"]
    assert isinstance(known, Family)
    before = dict(FAMILIES)
    twin = replace(known, name="twin", policies=lambda: {"iql": PolicyTraits(plans=True)})
    with pytest.raises(ConfigError, match="family twin: policy iql has other traits in family masked_trajectory"):
        register_family(twin)
    assert before == FAMILIES
