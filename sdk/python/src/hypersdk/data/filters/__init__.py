"""Filters: decorators of BlockSource and BlockSink that are of the same type, so they stack in any order.

    throttle   TokenBucket, ThrottledSource, ThrottledSink: at most so many bytes a second
    retry      RetryingSource: repeats reads that failed for a passing reason
    meter      MeteredSource, MeteredSink: calls, bytes, seconds
    cache      CachedSource: keeps decoded units for whoever reads in small steps
    window     WindowSource: a part of a disk as a disk of its own
    forward    ForwardingSource, ForwardingSink: what a filter starts from
"""

from hypersdk.data.filters.cache import CachedSource
from hypersdk.data.filters.forward import ForwardingSink, ForwardingSource
from hypersdk.data.filters.meter import Meter, MeteredSink, MeteredSource
from hypersdk.data.filters.retry import RetryingSource
from hypersdk.data.filters.throttle import ThrottledSink, ThrottledSource, TokenBucket
from hypersdk.data.filters.window import WindowSource

__all__ = [
    "CachedSource", "ForwardingSink", "ForwardingSource", "Meter", "MeteredSink", "MeteredSource", "RetryingSource",
    "ThrottledSink", "ThrottledSource", "TokenBucket", "WindowSource",
]  # fmt: skip
