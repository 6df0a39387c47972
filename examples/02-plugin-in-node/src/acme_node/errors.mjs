// Errors as the kernel knows them: a kind of the tree, a stable reason, a sentence.

export class PluginError extends Error {
  constructor(kind, reason, message, field = "") {
    super(message);
    this.kind = kind;
    this.reason = reason;
    this.field = field;
  }

  toJson() {
    const retryable = ["Unavailable", "ResourceExhausted", "DeadlineExceeded"].includes(this.kind);
    const violations = this.field ? [{ field: this.field, description: cut(this.message) }] : [];
    return {
      kind: this.kind, reason: this.reason, message: cut(this.message), metadata: {}, retryable,
      retry_after_s: null, violations,
    };
  }
}

export const invalid = (field, text, reason = "INVALID_ARGUMENT") =>
  new PluginError("InvalidArgument", reason, `${field} ${text}`, field);

// Whatever was thrown, as the `error` member of a response.
export function toRpc(error) {
  const known = error instanceof PluginError ? error
    : new PluginError("Internal", "UNEXPECTED_EXCEPTION", `${error?.name}: ${error?.message}`);
  return { code: -32000, message: cut(known.message), data: known.toJson() };
}

const cut = (text) => String(text).slice(0, 8192);
