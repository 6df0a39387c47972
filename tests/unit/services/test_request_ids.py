"""Every method that can change something takes a request_id and validate_only, by the rule of all others."""

import importlib
import pkgutil

import hypersdk.api
import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk_kernel.services.operations import OperationsService

READING = ("Get", "List", "Watch", "Stream")
"""Verbs of AIP-131 and 132, and streams of what there is."""

WITHOUT = {
    "AuditService.ExportAuditEntries": "a stream of what is there",
    "AuditService.VerifyAuditChain": "a query: reads the chain",
    "ConnectionService.TestConnection": "a query: asks the platform how it is now, which a remembered answer is not",
    "FormatService.InspectImage": "a query: reads an image",
    "JobService.ExplainJob": "a query",
    "PluginService.CheckPluginHealth": "a query: asks the host how it is now",
    "PolicyService.EvaluateWindow": "a query",
    "PricingService.Compare": "a query: a calculation",
    "PricingService.Estimate": "a query: a calculation",
    "ReportService.ReportJobs": "a query: sums",
    "ScheduleService.PreviewTimes": "a query: a calculation",
    "SubscriptionService.TestSubscription": "a query: whether the receiver takes a test notice now; keeps nothing",
    "Operations.CancelOperation": "google.longrunning's own message has no such field; a second cancel changes nothing",
    "Operations.WaitOperation": "a query that waits",
}


def methods() -> dict[str, MethodDescriptor]:
    modules = (
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(hypersdk.api.__path__, "hypersdk.api.")
        if info.name.endswith("_pb2")
    )
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    found = {
        f"{service.name}.{method.name}": method
        for service in [*services, OperationsService.descriptor]
        for method in service.methods
    }
    return {name: m for name, m in found.items() if m.name not in OperationsService.unserved}


METHODS = methods()
MUTATORS = [name for name, m in METHODS.items() if not m.name.startswith(READING) and name not in WITHOUT]


def asked(method: MethodDescriptor) -> Descriptor:
    """The message that says what is asked: of an upload the part that its first message has."""
    if not method.client_streaming:
        return method.input_type
    return method.input_type.fields_by_name["upload"].message_type


@pytest.mark.parametrize("name", MUTATORS)
def test_a_method_that_changes_something_can_be_repeated_and_rehearsed(name):
    fields = asked(METHODS[name]).fields_by_name
    assert {"request_id", "validate_only"} <= set(fields)
    rule = jobs_pb2.CreateJobRequest.DESCRIPTOR.fields_by_name["request_id"].GetOptions()
    assert fields["request_id"].GetOptions() == rule


def test_what_needs_no_request_id_is_there_and_has_none():
    assert not WITHOUT.keys() - METHODS.keys()
    assert not [name for name in WITHOUT if "request_id" in asked(METHODS[name]).fields_by_name]
