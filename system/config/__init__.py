"""The configuration: shared sections and the family's own, read strictly, checked by itself and together."""

from system.config.ascent import AscentConfig
from system.config.fields import setting
from system.config.rebrac import ReBRACConfig
from system.config.sections import (
    NO_ENVIRONMENT,
    CheckpointConfig,
    CollectConfig,
    CriticConfig,
    DatasetConfig,
    EnvironmentConfig,
    EvaluationConfig,
    EvaluatorPlacementConfig,
    LearnerPlacementConfig,
    OnlineConfig,
    PlacementConfig,
    PlannerConfig,
    PretrainConfig,
    RolloutPlacementConfig,
    RunConfig,
    SweepConfig,
    TrackingConfig,
)

__all__ = [
    "NO_ENVIRONMENT",
    "AscentConfig",
    "CheckpointConfig",
    "CollectConfig",
    "CriticConfig",
    "DatasetConfig",
    "EnvironmentConfig",
    "EvaluationConfig",
    "EvaluatorPlacementConfig",
    "LearnerPlacementConfig",
    "OnlineConfig",
    "PlacementConfig",
    "PlannerConfig",
    "PretrainConfig",
    "ReBRACConfig",
    "RolloutPlacementConfig",
    "RunConfig",
    "SweepConfig",
    "TrackingConfig",
    "setting",
]
