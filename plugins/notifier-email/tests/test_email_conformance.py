"""notifier-email against the suites that every notifier and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.notifier_contract import NotifierContract
from hypersdk_notifier_email import EmailNotifier

BASE = {"host": "mail.example", "from": "a@example.com", "to": ["b@example.com"]}


class TestEmailContract(NotifierContract):
    capabilities = frozenset({"delivery_id"})

    @pytest.fixture
    def receiver(self, mailbox):
        return mailbox

    @pytest.fixture
    def secret_values(self):
        return []

    @pytest.fixture
    def make(self, receiver):
        def one():
            notifier = EmailNotifier()
            config = {**BASE, "host": "127.0.0.1", "port": receiver.port, "security": "none", "timeout_s": 0.5}
            notifier.configure(config, {})
            return notifier

        return one


class TestEmailManifest(ManifestContract):
    distribution_name = "hypersdk-notifier-email"
    package = "hypersdk_notifier_email"
    good: ClassVar = {
        "notifier/email": [
            BASE,
            {**BASE, "port": 2525, "security": "tls", "user": "x", "password": "env:P", "timeout_s": 2},
            {**BASE, "subject": "$type", "ca_file": "/ca.pem"},
        ]
    }
    bad: ClassVar = {
        "notifier/email": [
            {},
            {**BASE, "to": []},
            {**BASE, "to": "b@example.com"},
            {**BASE, "port": 0},
            {**BASE, "security": "maybe"},
            {**BASE, "host": "mail example"},
            {**BASE, "cc": ["c@example.com"]},
        ]
    }
