"""The project's settings, read from ``manyhands.toml``; and how a model is named."""

from manyhands.config.files import FILE, find_config, home, load_config
from manyhands.config.schema import Config, McpConfig, ModelConfig
from manyhands.config.specs import (
    ALGORITHM,
    FORMS,
    MANNERS,
    PLANNERS,
    Kind,
    ModelSpec,
    RoleSpec,
    forms,
    located_role,
    located_text,
    parse_spec,
    parse_specs,
    role_spec,
)

__all__ = [
    "ALGORITHM",
    "FILE",
    "FORMS",
    "MANNERS",
    "PLANNERS",
    "Config",
    "Kind",
    "McpConfig",
    "ModelConfig",
    "ModelSpec",
    "RoleSpec",
    "find_config",
    "forms",
    "home",
    "load_config",
    "located_role",
    "located_text",
    "parse_spec",
    "parse_specs",
    "role_spec",
]
