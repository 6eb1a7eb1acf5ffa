"""Backbones by name: `kind` in a configuration -> the class that is built and the settings it takes.

A new backbone is one file in this folder with `@register("name", Config)` over its class, or any file of a person's
own, named by `kind: module:Class`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, make_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

import gymnasium

from triathlon.networks.backbone import Backbone
from triathlon.networks.errors import SettingError, nearest
from triathlon.networks.spaces import image_size


@dataclass(frozen=True)
class BackboneConfig:
    """What every backbone's settings derive from; by itself it means: choose the encoder that fits the space."""

    kind: Annotated[str, "which backbone: a registered name, module:Class, or auto (chosen by the space)"] = "auto"


BackboneClass = TypeVar("BackboneClass", bound=type[Backbone])
_registered: dict[str, tuple[type[Backbone], type[BackboneConfig]]] = {}


def register(kind: str, config: type[BackboneConfig]) -> Callable[[BackboneClass], BackboneClass]:
    """Class decorator: `kind` names a backbone, built as `Class(space, config)` with settings of class `config`."""

    def enter(backbone: BackboneClass) -> BackboneClass:
        holder = _registered.get(kind)
        if holder is not None and holder[0].__qualname__ != backbone.__qualname__:
            raise SettingError(f"two backbones are registered as '{kind}': {holder[0].__name__}, {backbone.__name__}")
        _registered[kind] = (backbone, config)
        return backbone

    return enter


def kinds() -> list[str]:
    """The registered names, sorted, `auto` first."""
    _read_room()
    return ["auto", *sorted(_registered)]


def config_class(kind: str) -> type[BackboneConfig]:
    """The settings that `kind` takes.

    Raises:
        SettingError: `kind` is neither registered, nor `auto`, nor an importable `module:Class`.
    """
    return BackboneConfig if kind == "auto" else _find(kind)[1]


def backbone_class(kind: str) -> type[Backbone]:
    """The class that `kind` names; raises SettingError as `config_class` does, and for `auto`, which is no class."""
    return _find(kind)[0]


def make_backbone(config: BackboneConfig, space: gymnasium.Space[Any]) -> Backbone:
    """Build the backbone that `config` describes for observations of `space`.

    Raises:
        SettingError: the kind is unknown, cannot read such a space, or a setting does not fit it.
    """
    if config.kind == "auto":
        config = _for_space(space)
    backbone, expected = _find(config.kind)
    if not isinstance(config, expected.__mro__[1] if ":" in config.kind else expected):
        raise SettingError(f"backbone '{config.kind}' takes {expected.__name__}, not {type(config).__name__}")
    return backbone(space, config)


def make_encoder(config: BackboneConfig, space: gymnasium.Space[Any], who: str) -> Backbone:
    """`make_backbone` for a place where only a stateless one can stand; `who` is named in errors.

    Raises:
        SettingError: as `make_backbone`, or the backbone has a memory.
    """
    encoder = make_backbone(config, space)
    if encoder.initial_state(1):
        raise SettingError(f"{who}: its encoder must have no memory of its own, and '{config.kind}' has one")
    return encoder


def _find(kind: str) -> tuple[type[Backbone], type[BackboneConfig]]:
    if ":" in kind:
        return _import(kind)
    _read_room()
    if kind not in _registered:
        raise SettingError(
            f"unknown backbone '{kind}'{nearest(kind, kinds())}: it is one of {', '.join(kinds())}, or module:Class"
        )
    return _registered[kind]


@cache
def _read_room() -> None:
    """Import every file of this folder once, so that each has registered what it defines."""
    for module in pkgutil.iter_modules([os.path.dirname(__file__)]):
        importlib.import_module(f"{__package__}.{module.name}")


@cache
def _import(path: str) -> tuple[type[Backbone], type[BackboneConfig]]:
    """`module:Class` from the import path or the current folder, with settings whose `kind` is that path."""
    module_name, _, name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the person's file was found; what it imports was not
        raise SettingError(f"backbone '{path}': no module '{module_name}' here ({os.getcwd()}) or installed") from error
    backbone = getattr(module, name, None)
    if not (isinstance(backbone, type) and issubclass(backbone, Backbone)):
        if backbone is None:
            raise SettingError(f"backbone '{path}': {module_name} has no such name{nearest(name, vars(module))}")
        raise SettingError(f"backbone '{path}': {name} is not a Backbone subclass ({Backbone.__module__})")
    config = getattr(backbone, "Config", None)
    if not (isinstance(config, type) and issubclass(config, BackboneConfig) and is_dataclass(config)):
        raise SettingError(f"backbone '{path}': give {name} a `Config` dataclass derived from BackboneConfig")
    kind = ("kind", Annotated[str, "which backbone"], path)
    return backbone, make_dataclass(config.__name__, [kind], bases=(config,), frozen=True)


SMALLEST_IMAGE = 5  # pixels: two convolutions of 3 x 3 leave one


def _for_space(space: gymnasium.Space[Any]) -> BackboneConfig:
    """The encoder that fits a space."""
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        kind = "dict"
    elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        kind = "tokens"
    else:
        size = image_size(space)
        kind = "mlp" if size is None or min(size) < SMALLEST_IMAGE else "cnn"
    return config_class(kind)()


__all__ = ["BackboneConfig", "backbone_class", "config_class", "kinds", "make_backbone", "make_encoder", "register"]
