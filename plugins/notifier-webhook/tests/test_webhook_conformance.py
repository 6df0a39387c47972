"""notifier-webhook against the suites that every notifier and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.notifier_contract import NotifierContract
from hypersdk_notifier_webhook import WebhookNotifier

SECRETS = {"secret": "a-key-of-some-length", "authorization": "Bearer planted-token-value"}


class TestWebhookContract(NotifierContract):
    capabilities = frozenset({"delivery_id"})

    @pytest.fixture
    def receiver(self, hook):
        return hook

    @pytest.fixture
    def secret_values(self):
        return [*SECRETS.values(), "planted-token-value", "in-the-path"]

    @pytest.fixture
    def make(self, receiver):
        def one():
            notifier = WebhookNotifier()
            config = {"url": receiver.url(), "allow_http": True, "allow_private": True, "timeout_s": 0.5}
            notifier.configure(config, SECRETS)
            return notifier

        return one


class TestWebhookManifest(ManifestContract):
    distribution_name = "hypersdk-notifier-webhook"
    package = "hypersdk_notifier_webhook"
    good: ClassVar = {
        "notifier/webhook": [
            {"url": "https://hooks.example/x"},
            {"url": "http://10.0.0.1:8080/", "allow_http": True, "allow_private": True, "timeout_s": 3},
            {"url": "https://x.example", "secret": "env:KEY", "authorization": "file:/run/token", "ca_file": "/ca.pem"},
        ]
    }
    bad: ClassVar = {
        "notifier/webhook": [
            {},
            {"url": "ftp://x.example/"},
            {"url": "https://user:pass@x.example/"},
            {"url": "https://x.example/ y"},
            {"url": "https://x.example/", "timeout_s": 0},
            {"url": "https://x.example/", "timeout_s": 600},
            {"url": "https://x.example/", "ca_file": "relative.pem"},
            {"url": "https://x.example/", "method": "GET"},
        ]
    }
