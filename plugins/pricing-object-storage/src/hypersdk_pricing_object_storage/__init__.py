"""List prices of three object stores, each a table of dated and sourced rows beside this module.

Not here: negotiated or regional prices beyond those rows, and fetching new ones: a table changes with a new version of
this plugin.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from hypersdk.plugin import PriceRow, PriceTable, read_rows

__all__ = ["AwsS3", "AzureBlob", "GoogleCloudStorage"]


class _Table(PriceTable):
    """The rows of one CSV file, read once."""

    file: ClassVar[str]
    region: ClassVar[str]

    @property
    def default_region(self) -> str:
        return self.region

    @cached_property
    def _rows(self) -> tuple[PriceRow, ...]:
        return read_rows(importlib.resources.files(__package__).joinpath(self.file).read_text("utf-8"))

    def rows(self) -> Sequence[PriceRow]:
        return self._rows


class AwsS3(_Table):
    """Amazon S3."""

    file = "aws-s3.csv"
    region = "us-east-1"


class AzureBlob(_Table):
    """Azure Blob Storage, locally redundant."""

    file = "azure-blob.csv"
    region = "eastus"


class GoogleCloudStorage(_Table):
    """Google Cloud Storage, one region of the United States."""

    file = "gcs.csv"
    region = "us"
