"""Keys of endpoints: read from the environment, or from where ``hf auth login`` left one.

Invariant: a key leaves this module as a `SecretStr`, and no message holds one.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from manyhands.errors import ConfigError

#: The key for a model that is named by its URL alone.
OWN = "MANYHANDS_API_KEY"
TOKENS = "https://huggingface.co/settings/tokens"
_HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def variable(name: str) -> SecretStr | None:
    value = os.environ.get(name, "").strip()
    return SecretStr(value) if value else None


def needed_variable(name: str, where: str) -> SecretStr:
    """Raises `ConfigError` where it is not set: the server's own answer would be less clear."""
    found = variable(name)
    if found is None:
        raise ConfigError(
            f"{where}: the environment variable {name} (api_key_env) is not set",
            next=f"export {name}=…, or remove api_key_env if the server wants no key",
        )
    return found


def hub_token(spec: str) -> SecretStr:
    """Hugging Face's: from ``HF_TOKEN``, else what is stored. Raises `ConfigError` without one."""
    for name in _HUB:
        found = variable(name)
        if found is not None:
            return found
    stored = _stored()
    if not stored:
        raise ConfigError(
            f"model {spec!r} needs a Hugging Face token, and there is none",
            next=f"export HF_TOKEN=… (made at {TOKENS}, allowed to make calls to Inference "
            "Providers), or `hf auth login`",
        )
    return SecretStr(_refreshed() or stored)


def hub_tokens() -> tuple[SecretStr | None, ...]:
    """All that there are, wherever they are."""
    stored = _stored()
    return (*map(variable, _HUB), SecretStr(stored) if stored else None)


def hub_token_from() -> str:
    """Where `hub_token` would take it from; '': there is none."""
    for name in _HUB:
        if variable(name) is not None:
            return name
    return str(_token_file()) if _stored() else ""


def hub_cache() -> Path:
    """Where Hugging Face's downloads lie."""
    return _hub_path("HF_HUB_CACHE", "hub")


def _token_file() -> Path:
    return _hub_path("HF_TOKEN_PATH", "token")


def _hub_path(name: str, below_home: str) -> Path:
    """By the rules of huggingface_hub, which need not be installed."""
    cache = os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
    folder = os.environ.get("HF_HOME", "") or os.path.join(cache, "huggingface")
    named = os.environ.get(name, "") or os.path.join(folder, below_home)
    return Path(os.path.expandvars(named)).expanduser()


def _stored() -> str:
    try:
        return _token_file().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _refreshed() -> str | None:
    """Tokens of a login in the browser run out; the library, where it is there, renews them."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import get_token  # noqa: PLC0415 - optional extra

    return get_token()
