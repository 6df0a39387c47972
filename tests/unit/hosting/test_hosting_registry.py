"""Which component answers a name."""

import pytest
from hosting_fakes import make_component, make_plugin
from hypersdk.errors import FailedPrecondition, NotFound
from hypersdk_kernel.hosting.hookspecs import hookimpl
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.model.job import Pin
from hypersdk_kernel.model.plugin import GenerationState

VHD = make_component("format/vhd", plugin="vhd", aliases=("vpc",))
RAW = make_component("format/raw", plugin="raw", aliases=("img", "vhd"))
COPY = make_component("task/copy", plugin="copy")


def registry(*components):
    return Registry([make_plugin(c) for c in components])


def pin_of(component, **changes):
    generation = component.generation
    fields = {"digest": generation.digest, "distribution": generation.distribution} | changes
    return Pin(generation.name, fields["distribution"], "1.0", fields["digest"], "1.0", (component.name,))


def test_components_are_found_by_name_and_by_alias_within_their_kind():
    plugins = registry(VHD, RAW, COPY)
    assert plugins.component("format/vhd") == VHD  # a name beats another component's alias
    assert plugins.component("format/vpc") == VHD
    assert plugins.component("format/vpc") == VHD  # remembered
    assert plugins.component("format/img") == RAW
    with pytest.raises(NotFound):
        plugins.component("task/vpc")


def test_components_of_a_kind_come_in_order():
    assert [c.name for c in registry(VHD, RAW, COPY).components("format")] == ["format/raw", "format/vhd"]


def test_an_unknown_component_names_what_there_is():
    with pytest.raises(NotFound, match="format/raw, format/vhd") as caught:
        registry(VHD, RAW).component("format/qed")
    assert caught.value.reason == "COMPONENT_UNKNOWN"


def test_a_component_of_two_plugins_belongs_to_the_first_and_the_other_is_failed():
    plugins = registry(make_component("format/raw", plugin="b"), make_component("format/raw", plugin="a"))
    assert plugins.component("format/raw").generation.plugin_id == "a"
    loser = plugins.plugin("b").generations[0]
    assert (loser.state, loser.failure_reason) == (GenerationState.FAILED, "COMPONENT_CONFLICT")


def test_a_failed_plugin_offers_nothing_and_is_named_when_it_is_missed():
    plugins = registry(make_component("format/raw", plugin="a"), make_component("format/raw", plugin="b"))
    assert [p.id for p in plugins.plugins()] == ["a", "b"]
    only_failed = Registry([plugins.plugin("b")])
    with pytest.raises(NotFound, match="hypersdk-b would provide it"):
        only_failed.component("format/raw")


def test_an_unknown_plugin_is_not_found():
    with pytest.raises(NotFound) as caught:
        registry(RAW).plugin("x")
    assert caught.value.reason == "PLUGIN_NOT_FOUND"


def test_a_pin_is_found_by_distribution_and_digest_whatever_the_state():
    retired = make_component("task/copy", plugin="copy", state=GenerationState.RETIRED)
    plugins = registry(retired, RAW)
    assert plugins.pinned(pin_of(retired)) == retired.generation
    for pin in (pin_of(retired, digest="00"), pin_of(retired, distribution="hypersdk-x")):
        with pytest.raises(FailedPrecondition) as caught:
            plugins.pinned(pin)
        assert caught.value.reason == "PIN_UNAVAILABLE"


def test_hooks_redact_and_what_joins_later_is_asked_too():
    plugins = registry(RAW)

    class Strict:
        @hookimpl
        def redact(self, fields):
            return {"user": "?"} if "user" in fields else None

    assert plugins.redact({"user": "u", "token": "t"}) == {"user": "u", "token": "[redacted]"}
    plugins.manager.register(Strict())
    assert plugins.redact({"user": "u", "token": "t"}) == {"user": "?", "token": "[redacted]"}
    assert plugins.redact({"n": 1}) == {"n": 1}


def test_a_hook_may_choose_the_provider_of_a_name():
    plugins = registry(RAW)

    class Choice:
        @hookimpl
        def select_provider(self, name):
            return RAW if name == "format/anything" else None

    plugins.manager.register(Choice())
    assert plugins.component("format/anything") == RAW
