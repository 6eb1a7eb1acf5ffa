"""What is played. `make_envs(EnvConfig(id=...))` gives vector environments; `architecture.md` says how they behave."""

from triathlon.envs.control import hidden_parts
from triathlon.envs.errors import EnvError
from triathlon.envs.make import EnvConfig, make_env, make_envs
from triathlon.envs.registry import register
from triathlon.envs.spaces import check_envs
from triathlon.envs.state import restore, state_of

register()

__all__ = ["EnvConfig", "EnvError", "check_envs", "hidden_parts", "make_env", "make_envs", "restore", "state_of"]
