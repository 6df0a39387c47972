"""notifier-email: events as mails."""

from hypersdk_notifier_email.notifier import EmailNotifier

__all__ = ["EmailNotifier"]
