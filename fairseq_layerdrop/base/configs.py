"""Configurations of omegaconf."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf


def config_as_dict(config: DictConfig | ListConfig, **options: Any) -> dict[str, Any]:
    """What omegaconf's ``to_container`` makes of a mapping."""
    return OmegaConf.to_container(config, **options)  # type: ignore[return-value]
