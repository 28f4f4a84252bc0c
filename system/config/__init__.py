"""The configuration: shared sections and the family's own, read strictly, checked by itself and together."""

from system.config.sections import (
    CheckpointConfig,
    CollectConfig,
    CriticConfig,
    DatasetConfig,
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
    setting,
)

__all__ = [
    "CheckpointConfig",
    "CollectConfig",
    "CriticConfig",
    "DatasetConfig",
    "EvaluationConfig",
    "EvaluatorPlacementConfig",
    "LearnerPlacementConfig",
    "OnlineConfig",
    "PlacementConfig",
    "PlannerConfig",
    "PretrainConfig",
    "RolloutPlacementConfig",
    "RunConfig",
    "SweepConfig",
    "TrackingConfig",
    "setting",
]
