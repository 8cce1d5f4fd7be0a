"""The project's settings, read from ``manyhands.toml``; and how a model is named."""

from manyhands.config.files import FILE, find_config, home, load_config
from manyhands.config.schema import Config, McpConfig, ModelConfig
from manyhands.config.specs import (
    ALGORITHM,
    FORMS,
    Kind,
    ModelSpec,
    forms,
    located_text,
    parse_spec,
    parse_specs,
)

__all__ = [
    "ALGORITHM",
    "FILE",
    "FORMS",
    "Config",
    "Kind",
    "McpConfig",
    "ModelConfig",
    "ModelSpec",
    "find_config",
    "forms",
    "home",
    "load_config",
    "located_text",
    "parse_spec",
    "parse_specs",
]
