"""A configuration means what it says, or is refused in one sentence that says what to change."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt, Le
from hypothesis import given
from hypothesis import strategies as st

from triathlon.agents.ppo_config import PPOConfig
from triathlon.networks.recurrent import LSTMConfig
from triathlon.networks.registry import BackboneConfig
from triathlon.training import config, schema, yaml_text
from triathlon.training.errors import RunError

TEXT = """
env: {id: CartPole-v1, num_envs: 4}
agent: {kind: ppo, learning_rate: 1e-4, batch_size: 128}
backbone: {kind: mlp, hidden_sizes: [32, 16]}
total_steps: 100_000
"""


def experiment(*arguments: str, text: str = TEXT) -> config.Experiment:
    return config.from_mapping(yaml_text.parse(text, "a.yaml"), arguments)


def refusal(*arguments: str, text: str = TEXT) -> str:
    with pytest.raises(RunError) as caught:
        experiment(*arguments, text=text)
    return str(caught.value)


def test_numbers_lists_and_defaults() -> None:
    found = experiment()
    assert found.agent.kind == "ppo"
    assert found.agent.learning_rate == 0.0001
    assert found.agent.gae_lambda == PPOConfig().gae_lambda
    assert found.backbone.hidden_sizes == (32, 16)
    assert found.total_steps == 100_000
    assert found.seed == 1
    assert found.evaluation.final_episodes == 100


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("1E6", 1_000_000),
        ("-2.5e3", -2500.0),
        ("100_000", 100_000),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("off", "off"),
        ("2020-01-01", "2020-01-01"),
        ("0.5", 0.5),
        (".inf", float("inf")),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("null", None),
        ("", None),
        ("true", True),
        ("v1", "v1"),
    ],
)
def test_what_yaml_text_means(text: str, value: Any) -> None:
    found = yaml_text.parse_value(text, "here")
    assert found == value
    assert type(found) is type(value)


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(YAML | st.sampled_from(["1e5", "1_000", "null", "true", "0x10", "~", "<<", "1.", "-.5", "yes", "1:30"]))
def test_what_is_dumped_is_read_back(value: Any) -> None:
    for text in (yaml_text.dump(value), yaml_text.dump_line(value)):
        found = yaml_text.parse_value(text, "here")
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "a.yaml, line 2 is not YAML that can be read: the key 'a' stands twice"),
        ("a: {b: 1, b: 1}", "the key 'b' stands twice"),
        ("a: [1", "a.yaml is not YAML that can be read"),
        ("- 1", "a.yaml holds list but should hold a mapping"),
        ("", "a.yaml holds NoneType but should hold a mapping"),
        ("a: !!python/object:os.system {}", "is not YAML that can be read: could not determine a constructor"),
    ],
)
def test_text_that_is_no_configuration(text: str, message: str) -> None:
    with pytest.raises(RunError) as caught:
        yaml_text.parse(text, "a.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--agent.learning-rte 1",
            "agent.learning_rte is not a setting of agent of kind 'ppo' (did you mean 'learning_rate'?)",
        ),
        ("--agent.learning-rate fast", "agent.learning_rate is 'fast' but should be a number"),
        ("--agent.learning-rate true", "agent.learning_rate is true but should be a number"),
        ("--agent.learning-rate=-1", "agent.learning_rate is -1 but should be greater than 0"),
        ("--agent.num-epochs 1.5", "agent.num_epochs is 1.5 but should be an integer"),
        ("--agent.kind ppoo", "agent.kind: no agent is called 'ppoo'"),
        ("--agent.kind 3", "agent.kind is 3 but should be the name of a kind"),
        ("--backbone.kind lstmm", "(did you mean 'lstm'?)"),
        (
            "--backbone.hidden-sizes [64,a]",
            "backbone.hidden_sizes is [64, 'a'] but element 1 of it should be an integer",
        ),
        ("--backbone 3", "backbone is 3 but should be a mapping of settings"),
        ("--device gpu", "device is 'gpu' but should be 'auto', 'cpu', 'cuda' or 'mps'"),
        ("--sed 3", "sed is not a setting of the configuration (did you mean 'seed'?)"),
        ("--xyzzy 3", "it has env, agent, total_steps"),
        ("--total-steps", "total_steps is true but should be an integer"),
        ("--total-steps.x 1", "--total_steps.x: total_steps is 100000, which has no settings in it"),
        ("agent.gamma 0.9", "'agent.gamma' is not understood; settings are written --path.to-key value"),
        ("--env.kwargs {a:", "--env.kwargs is not YAML that can be read"),
        ("--checkpoint.period 0", "checkpoint.period is 0 but should be greater than 0"),
    ],
)
def test_settings_that_are_refused(arguments: str, message: str) -> None:
    text = refusal(*arguments.split(" "))
    assert message in text
    assert "\n" not in text


def test_a_setting_without_default_has_to_be_given() -> None:
    assert refusal(text="agent: {kind: ppo}\nenv: {id: X}") == (
        "total_steps is missing; it has no default, so the configuration must give it"
    )
    assert refusal(text="agent: ppo\nenv: {}\ntotal_steps: 1").startswith("env.id is missing")


def test_the_command_line_changes_values() -> None:
    found = experiment(
        "--agent.learning-rate=1e-3", "--seed", "7", "--env.kwargs.sutton-barto-reward", "true", "--name", "x"
    )
    assert found.agent.learning_rate == 0.001
    assert found.agent.batch_size == 128
    assert found.seed == 7
    assert found.env.kwargs == {"sutton_barto_reward": True}
    assert found.name == "x"
    assert experiment("--agent.normalize-obs", "--seed", "3").agent.normalize_obs is True


@pytest.mark.parametrize("name", ["42", "007", "1e3", "0.50"])
def test_a_name_may_be_a_number_on_the_command_line(name: str) -> None:
    assert experiment("--name", name).name == name
    assert type(experiment("--seed", "7").seed) is int
    assert "agent.gamma is 7 but should be" in refusal("--agent.gamma", "7")
    assert "name is true but should be a string" in refusal("--name", "true")


def test_the_mapping_that_is_changed_stays_as_it_was() -> None:
    mapping = yaml_text.parse(TEXT, "a.yaml")
    config.override(mapping, ["--agent.kind", "dqn", "--env.id", "Acrobot-v1"])
    assert mapping == yaml_text.parse(TEXT, "a.yaml")


def test_a_changed_kind_keeps_what_both_know() -> None:
    found = experiment("--agent.kind", "dqn", "--backbone.kind", "lstm")
    assert found.agent.kind == "dqn"
    assert found.agent.learning_rate == 0.0001
    assert found.agent.batch_size == 128
    assert found.backbone == LSTMConfig()
    short = experiment("--backbone", "lstm", "--backbone.hidden-size", "7")
    assert short.backbone == LSTMConfig(hidden_size=7)


def test_a_key_given_with_a_changed_kind_has_to_fit() -> None:
    message = refusal("--backbone.hidden-sizes", "[3]", "--backbone.kind", "lstm")
    assert message.startswith("backbone.hidden_sizes is not a setting of backbone of kind 'lstm'")
    same = refusal("--backbone.kind", "mlp", "--backbone.hidden-size", "3")
    assert same.startswith("backbone.hidden_size is not a setting of backbone of kind 'mlp'")


def test_backbones_within_backbones() -> None:
    text = TEXT.replace("{kind: mlp, hidden_sizes: [32, 16]}", "{kind: gru, encoder: {kind: mlp, hidden_sizes: [8]}}")
    found = experiment("--backbone.encoder.activation", "relu", text=text)
    assert found.backbone.encoder.hidden_sizes == (8,)
    assert found.backbone.encoder.activation == "relu"
    assert experiment("--backbone.encoder.kind", "cnn", text=text).backbone.encoder.kind == "cnn"
    assert refusal("--backbone.encoder.sizes", "3", text=text).startswith("backbone.encoder.sizes is not a setting")


def test_an_encoder_for_each_key_of_a_dict() -> None:
    text = TEXT.replace("{kind: mlp, hidden_sizes: [32, 16]}", "{kind: dict, encoders: {image: cnn, pos: {kind: mlp}}}")
    found = experiment("--backbone.encoders.pos.hidden-sizes", "[5]", text=text)
    assert found.backbone.encoders["image"].kind == "cnn"
    assert found.backbone.encoders["pos"].hidden_sizes == (5,)
    assert config.from_mapping(yaml_text.parse(config.dump(found), "dump")) == found


def test_a_dump_loads_equal(tmp_path: Path) -> None:
    found = experiment("--agent.kind", "dqn", "--backbone.kind", "transformer", "--env.kwargs", "{a: [1, 2.5, x]}")
    path = tmp_path / "config.yaml"
    path.write_text(config.dump(found))
    assert config.load(path) == found
    assert "learning_rate: 0.0001\n" in config.dump(found)


def test_shipped_configurations_are_found_by_name() -> None:
    assert config.load("cartpole_ppo").env.id == "CartPole-v1"
    with pytest.raises(RunError, match=r"no configuration file 'cartpole_pp'.*did you mean cartpole_ppo"):
        config.load("cartpole_pp")
    with pytest.raises(RunError, match=r"triathlon train --help lists"):
        config.load("/no/such/file.yaml")


def test_every_shipped_configuration_is_valid() -> None:
    folder = config.find("cartpole_ppo").parent
    paths = sorted(path for path in folder.rglob("*.yaml") if path.parent.name != "supervised")
    assert paths
    for path in paths:
        assert config.load(path).total_steps > 0


def test_help_shows_every_setting_with_its_value() -> None:
    text = config.help_text(experiment("--backbone.kind", "lstm"))
    for path, _, help_line in schema.settings(experiment("--backbone.kind", "lstm")):
        assert f"--{path.replace('_', '-')} " in text
        assert help_line in text
    line = next(line for line in text.splitlines() if "--agent.learning-rate" in line)
    assert line.split()[:2] == ["--agent.learning-rate", "0.0001"]


@dataclass(frozen=True)
class Part:
    """A part of `Whole`."""

    size: Annotated[int, Gt(0), "how large"] = 1


@dataclass(frozen=True)
class Whole:
    """Types that a person's own settings may have."""

    maybe: Annotated[float | None, Gt(0), Le(2), "a number or nothing"] = None
    either: Annotated[int | Literal["auto"], "a number or auto"] = "auto"
    pair: Annotated[tuple[int, str], "two things"] = (1, "a")
    part: Part | None = None
    parts: Annotated[tuple[Part, ...], "several"] = ()
    named: Annotated[dict[str, Part], "several by name"] = field(default_factory=dict)


def test_types_that_settings_may_have() -> None:
    mapping = {
        "maybe": 2,
        "either": 3,
        "pair": [2, "b"],
        "part": {"size": 4},
        "parts": [{}, {"size": 5}],
        "named": {"x": {"size": 6}},
    }
    whole = Whole(2.0, 3, (2, "b"), Part(4), (Part(1), Part(5)), {"x": Part(6)})
    assert schema.build(Whole, mapping, {}) == whole
    assert schema.build(Whole, schema.to_mapping(whole), {}) == whole
    assert schema.build(Whole, {"part": None}, {}) == Whole()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"maybe": 3}, "maybe is 3 but should be less than or equal to 2"),
        ({"either": "a"}, "either is 'a' but should be an integer or 'auto'"),
        ({"parts": [{"size": 0}]}, "parts.0.size is 0 but should be greater than 0"),
        ({"named": {"x": {"sise": 1}}}, "named.x.sise is not a setting of named.x (did you mean 'size'?)"),
        ({"named": [1]}, "named is [1] but should be a mapping"),
        ({"parts": {}}, "parts is {} but should be a list"),
        ({"part": 1}, "part is 1 but should be a mapping of settings"),
    ],
)
def test_the_place_of_a_fault_is_named(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError) as caught:
        schema.build(Whole, mapping, {})
    assert str(caught.value) == message


def test_a_polymorphic_class_without_kind_is_its_default() -> None:
    found = experiment(text="env: {id: X}\nagent: {}\ntotal_steps: 1")
    assert found.agent == PPOConfig()
    assert found.backbone == BackboneConfig(kind="auto")
