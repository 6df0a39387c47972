"""notifier-webhook: events as signed HTTP requests."""

from hypersdk_notifier_webhook.notifier import WebhookNotifier

__all__ = ["WebhookNotifier"]
