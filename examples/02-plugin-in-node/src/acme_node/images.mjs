// provider/acme-images: each `<id>.raw` of a folder is a machine with one disk, which is served over NBD.

import { lstat, open, readdir } from "node:fs/promises";
import path from "node:path";
import { PluginError, invalid } from "./errors.mjs";
import { serveFile } from "./nbd.mjs";
import { page, text } from "./requests.mjs";

const ID = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;
const DISK = "disk-0";

export class Images {
  methods = ["Health", "ListMachines", "GetMachine", "OpenDisk", "CloseDisk", "Cleanup"];
  open = new Map(); // handle → what closes it

  async Health(_request, connection) {
    const began = process.hrtime.bigint();
    try {
      const found = await machines(connection);
      const latency_s = Number(process.hrtime.bigint() - began) / 1e9;
      return { ok: true, message: "", latency_s, details: { machines: String(found.length) } };
    } catch (error) {
      if (!(error instanceof PluginError) || error.kind === "InvalidArgument") throw error;
      return { ok: false, message: error.message, latency_s: 0, details: {} };
    }
  }

  async ListMachines(request, connection) {
    const [items, next_page_token] = page(await machines(connection), request);
    return { machines: await Promise.all(items.map((id) => machine(id, connection))), next_page_token };
  }

  async GetMachine(request, connection) {
    return machine(idOf(text(request, "name"), connection), connection);
  }

  // In a runner: serve the disk on a socket in our working directory, which is the attempt's own.
  async OpenDisk(request, connection) {
    const handle = text(request, "handle");
    if (!ID.test(handle) || this.open.has(handle)) throw invalid("handle", "is in use or no name");
    const [name, disk] = text(request, "name").split("/disks/");
    if (disk !== DISK) throw new PluginError("NotFound", "DISK_NOT_FOUND", "a machine has one disk, disk-0");
    const file = await open(await existing(idOf(name, connection), connection), "r");
    const socket = `${handle}.nbd`;
    this.open.set(handle, await serveFile(file, socket));
    return { nbd: { socket, export: "", bitmap: null } };
  }

  async CloseDisk(request) {
    const close = this.open.get(text(request, "handle"));
    this.open.delete(text(request, "handle"));
    await close?.();
    return {};
  }

  async Cleanup() {
    return {}; // nothing outlives this process
  }
}

function folder(connection) {
  if (!connection) throw new PluginError("InvalidArgument", "CONNECTION_REQUIRED", "a provider needs a connection");
  const found = connection.config?.path;
  if (typeof found !== "string" || !path.isAbsolute(found)) throw invalid("config.path", "must be an absolute path");
  return found;
}

async function machines(connection) {
  try {
    const entries = await readdir(folder(connection), { withFileTypes: true });
    return entries.filter((entry) => entry.isFile() && entry.name.endsWith(".raw"))
      .map((entry) => entry.name.slice(0, -4)).filter((id) => ID.test(id)).sort();
  } catch (error) {
    if (error instanceof PluginError) throw error;
    throw new PluginError("Unavailable", "FOLDER_UNREADABLE", `the folder cannot be read: ${error.code}`);
  }
}

function idOf(name, connection) {
  folder(connection);
  const prefix = `${connection.name}/machines/`;
  const id = name.startsWith(prefix) ? name.slice(prefix.length) : "";
  if (!ID.test(id)) throw new PluginError("NotFound", "MACHINE_NOT_FOUND", "there is no such machine");
  return id;
}

async function existing(id, connection) {
  const file = path.join(folder(connection), `${id}.raw`);
  const found = await lstat(file).catch(() => null);
  if (!found?.isFile()) throw new PluginError("NotFound", "MACHINE_NOT_FOUND", `there is no machine ${id}`);
  return file;
}

async function machine(id, connection) {
  const file = await existing(id, connection);
  const { size, mtimeNs, blocks } = await lstat(file, { bigint: true });
  const name = `${connection.name}/machines/${id}`;
  return {
    name, display_name: id, platform_id: file, power_state: "POWER_STATE_OFF", cpu_count: 0, memory_bytes: 0,
    disks: [{
      name: `${name}/disks/${DISK}`, display_name: `${id}.raw`, platform_id: file, size_bytes: String(size),
      allocated_bytes: String(blocks * 512n), format: "", bus: "",
      details: { content_version: `${size}-${mtimeNs}` }, // differs whenever somebody wrote to it
    }],
    nics: [], labels: {}, details: {},
  };
}
