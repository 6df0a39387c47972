// The standard parts of a request message. The kernel has checked it by the proto's rules; nothing is taken on trust.

import { PluginError, invalid } from "./errors.mjs";

export function text(request, field) {
  const value = request[field] ?? "";
  if (typeof value !== "string") throw invalid(field, "must be a string");
  return value;
}

// [items of this page, token of the next]. Tokens are offsets.
export function page(items, request) {
  const size = Number(request.page_size || 50);
  if (!Number.isInteger(size) || size < 0) throw invalid("page_size", "must be a whole number");
  const token = text(request, "page_token");
  if (token && !/^\d{1,9}$/.test(token)) {
    throw new PluginError("InvalidArgument", "PAGE_TOKEN_INVALID", "the page token is none of this list", "page_token");
  }
  const start = Number(token || 0);
  const end = start + Math.min(size, 1000);
  return [items.slice(start, end), end < items.length ? String(end) : ""];
}
