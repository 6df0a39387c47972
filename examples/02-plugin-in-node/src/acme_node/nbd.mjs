// A read-only NBD server for one file on a unix socket: fixed newstyle, NBD_OPT_GO, simple replies (the NBD project's
// proto.md). The smallest that a client of today can use.

import net from "node:net";

const OPTION_MAGIC = 0x49484156454f5054n; // "IHAVEOPT"
const REPLY_MAGIC = 0x3e889045565a9n;
const [OPT_EXPORT_NAME, OPT_ABORT, OPT_GO] = [1, 2, 7];
const [REP_ACK, REP_INFO, REP_ERR_UNSUP] = [1, 3, 0x80000001];
const [CMD_READ, CMD_DISC] = [0, 2];
const FLAGS = 1 | 2 | 256; // HAS_FLAGS, READ_ONLY, CAN_MULTI_CONN
const MAX_READ = 32 << 20;
const MAX_OPTION = 65536;
const [EINVAL, EIO, EPERM] = [22, 5, 1];

// Resolves to a function that ends the server and closes `file`.
export async function serveFile(file, socketPath) {
  const size = (await file.stat({ bigint: true })).size;
  const clients = new Set();
  const server = net.createServer((socket) => {
    clients.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => clients.delete(socket));
    session(new Reader(socket), socket, file, size).catch(() => {}).finally(() => socket.destroy());
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(socketPath, resolve));
  return async () => {
    for (const socket of clients) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    await file.close();
  };
}

async function session(reader, socket, file, size) {
  const hello = Buffer.alloc(18);
  hello.write("NBDMAGICIHAVEOPT");
  hello.writeUInt16BE(3, 16); // FIXED_NEWSTYLE, NO_ZEROES
  socket.write(hello);
  await reader.take(4);
  for (;;) {
    const head = await reader.take(16);
    const [option, length] = [head.readUInt32BE(8), head.readUInt32BE(12)];
    if (head.readBigUInt64BE(0) !== OPTION_MAGIC || length > MAX_OPTION) return;
    await reader.take(length);
    if (option === OPT_ABORT || option === OPT_EXPORT_NAME) return;
    if (option === OPT_GO) {
      const info = Buffer.alloc(12); // NBD_INFO_EXPORT: type 0, size, flags
      info.writeBigUInt64BE(size, 2);
      info.writeUInt16BE(FLAGS, 10);
      socket.write(Buffer.concat([reply(option, REP_INFO, info), reply(option, REP_ACK)]));
      break;
    }
    socket.write(reply(option, REP_ERR_UNSUP));
  }
  for (;;) {
    const request = await reader.take(28);
    const [command, cookie] = [request.readUInt16BE(6), request.subarray(8, 16)];
    const [offset, length] = [request.readBigUInt64BE(16), request.readUInt32BE(24)];
    if (request.readUInt32BE(0) !== 0x25609513 || command === CMD_DISC) return;
    if (command !== CMD_READ) {
      if (command === 1) return; // a write's payload would follow; nobody who read our flags sends one
      socket.write(answer(cookie, EPERM));
    } else if (length > MAX_READ || offset + BigInt(length) > size) {
      socket.write(answer(cookie, EINVAL));
    } else {
      const data = Buffer.allocUnsafe(length);
      const error = await fill(file, data, offset).then(() => 0, () => EIO);
      socket.write(answer(cookie, error));
      if (!error && !socket.write(data)) await reader.drained();
    }
  }
}

async function fill(file, data, offset) {
  for (let done = 0; done < data.length;) {
    // A number: Node's promises take a BigInt for "from the current position", without a word.
    const { bytesRead } = await file.read(data, done, data.length - done, Number(offset) + done);
    if (!bytesRead) throw new Error("the file has become shorter");
    done += bytesRead;
  }
}

function reply(option, type, data = Buffer.alloc(0)) {
  const head = Buffer.alloc(20);
  head.writeBigUInt64BE(REPLY_MAGIC);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(type, 12);
  head.writeUInt32BE(data.length, 16);
  return Buffer.concat([head, data]);
}

function answer(cookie, error) {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(0x67446698);
  head.writeUInt32BE(error, 4);
  return Buffer.concat([head, cookie]);
}

// Bytes of a socket in exact portions.
class Reader {
  constructor(socket) {
    this.chunks = [];
    this.have = 0;
    this.waiting = null;
    socket.on("data", (chunk) => {
      this.chunks.push(chunk);
      this.have += chunk.length;
      this.#serve();
    });
    socket.on("close", () => {
      this.closed = true;
      this.waiting?.reject(new Error("the client has gone"));
      this.resume?.();
    });
    socket.on("drain", () => this.resume?.());
  }

  // Resolves when the socket has taken what was written, or has gone.
  drained() {
    return new Promise((resume) => { this.resume = resume; if (this.closed) resume(); });
  }

  take(count) {
    return new Promise((resolve, reject) => {
      if (this.closed) return reject(new Error("the client has gone"));
      this.waiting = { count, resolve, reject };
      this.#serve();
    });
  }

  #serve() {
    if (!this.waiting || this.have < this.waiting.count) return;
    const { count, resolve } = this.waiting;
    const whole = this.chunks.length === 1 ? this.chunks[0] : Buffer.concat(this.chunks);
    this.waiting = null;
    this.have -= count;
    this.chunks = [whole.subarray(count)];
    resolve(whole.subarray(0, count));
  }
}
