// Frames and JSON-RPC 2.0 over a connected socket, as docs/host-protocol.md has them.
//
// A frame: 4 bytes of length, big-endian, then one JSON object in UTF-8. What is no frame ends the connection, because
// nothing behind it can be trusted.

const MAX_FRAME = 8 << 20;
const MAX_IN_FLIGHT = 1024;
const INVALID_REQUEST = -32600;
const METHOD_NOT_FOUND = -32601;
const INVALID_PARAMS = -32602;

export class Connection {
  // methods: name → async (params) => result. onEnd is called once, when nothing more can come or go.
  constructor(socket, methods, toRpcError, onEnd) {
    this.socket = socket;
    this.methods = methods;
    this.toRpcError = toRpcError;
    this.inFlight = new Set();
    this.pending = [];
    this.pendingBytes = 0;
    this.idle = [];
    socket.on("data", (chunk) => this.#feed(chunk));
    socket.on("error", () => socket.destroy());
    socket.on("end", () => socket.destroy());
    socket.on("close", onEnd);
  }

  notify(method, params) {
    this.#send({ jsonrpc: "2.0", method, params });
  }

  // Resolves when every request has its answer.
  drained() {
    return this.inFlight.size === 0 ? Promise.resolve() : new Promise((done) => this.idle.push(done));
  }

  #feed(chunk) {
    this.pending.push(chunk);
    this.pendingBytes += chunk.length;
    while (this.pendingBytes >= 4 && !this.socket.destroyed) {
      if (this.pending[0].length < 4) this.pending = [Buffer.concat(this.pending)];
      const length = this.pending[0].readUInt32BE(0);
      if (length === 0 || length > MAX_FRAME) return void this.socket.destroy();
      if (this.pendingBytes < 4 + length) return;
      const whole = this.pending.length === 1 ? this.pending[0] : Buffer.concat(this.pending);
      this.pending = [whole.subarray(4 + length)];
      this.pendingBytes -= 4 + length;
      let message;
      try {
        message = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(whole.subarray(4, 4 + length)));
      } catch {
        return void this.socket.destroy();
      }
      if (!isObject(message)) return void this.socket.destroy();
      this.#receive(message);
    }
  }

  #receive({ id, method, params = {} }) {
    if (method === undefined) return; // an answer; this host asks nothing
    const known = typeof method === "string" && Object.hasOwn(this.methods, method) ? this.methods[method] : null;
    if (id === undefined || id === null) {
      if (known && isObject(params)) known(params, this).catch(() => {}); // nobody waits for its outcome
      return;
    }
    if (!Number.isInteger(id) || this.inFlight.has(id)) return this.#refuse(null, INVALID_REQUEST, "id is no integer");
    if (typeof method !== "string" || !isObject(params)) return this.#refuse(id, INVALID_PARAMS, "wrong types");
    if (!known) return this.#refuse(id, METHOD_NOT_FOUND, `no method ${method.slice(0, 100)}`);
    if (this.inFlight.size >= MAX_IN_FLIGHT) return this.#tooMany(id);
    this.inFlight.add(id);
    known(params, this)
      .then((result) => this.#send({ jsonrpc: "2.0", id, result }))
      .catch((error) => this.#send({ jsonrpc: "2.0", id, error: this.toRpcError(error) }))
      .finally(() => {
        this.inFlight.delete(id);
        if (this.inFlight.size === 0) for (const done of this.idle.splice(0)) done();
      });
  }

  #tooMany(id) {
    const data = { kind: "ResourceExhausted", reason: "TOO_MANY_REQUESTS", message: "too many requests", retryable: true };
    this.#send({ jsonrpc: "2.0", id, error: { code: -32000, message: data.message, data } });
  }

  #refuse(id, code, message) {
    this.#send({ jsonrpc: "2.0", id, error: { code, message } });
  }

  #send(message) {
    let body = Buffer.from(JSON.stringify(message));
    if (body.length > MAX_FRAME) {
      const data = { kind: "ResourceExhausted", reason: "FRAME_TOO_LARGE", message: "the result is too large", retryable: false };
      body = Buffer.from(JSON.stringify({ jsonrpc: "2.0", id: message.id, error: { code: -32000, message: data.message, data } }));
    }
    const head = Buffer.alloc(4);
    head.writeUInt32BE(body.length);
    if (!this.socket.destroyed) this.socket.write(Buffer.concat([head, body]));
  }
}

export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
