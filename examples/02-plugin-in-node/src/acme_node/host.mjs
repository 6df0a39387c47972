// The host: `node host.mjs --fd N`, N being our end of a socket pair. Serves until the kernel asks it to stop or goes.

import net from "node:net";
import { Connection, isObject } from "./protocol.mjs";
import { PluginError, invalid, toRpc } from "./errors.mjs";
import { Images } from "./images.mjs";
import { Prices } from "./pricing.mjs";

const PROTOCOL = 1;
const DRAIN_MS = 4000;
const COMPONENTS = { "pricing/acme-node": new Prices(), "provider/acme-images": new Images() };

let served = null; // the components this host was told to serve; null before `initialize`
let draining = false;

const methods = {
  async initialize(params) {
    if (served) throw new PluginError("FailedPrecondition", "ALREADY_INITIALIZED", "initialize was called before");
    if (params.protocol !== PROTOCOL) {
      throw new PluginError("Unsupported", "PROTOCOL_UNSUPPORTED", `this host speaks protocol ${PROTOCOL}`);
    }
    if (!isObject(params.components)) throw invalid("components", "must be an object", "INITIALIZE_INVALID");
    const names = Object.keys(params.components);
    const strange = names.find((name) => !Object.hasOwn(COMPONENTS, name));
    if (strange !== undefined) {
      throw new PluginError("Unsupported", "COMPONENT_KIND_UNSUPPORTED", `this plugin has no ${strange.slice(0, 100)}`);
    }
    served = new Set(names);
    return { protocol: PROTOCOL, api_version: "1.1", components: names.sort(), pid: process.pid };
  },

  async ping() {
    return {};
  },

  async cancel() {}, // every call begins at once, and none is interrupted

  async shutdown(_params, connection) {
    draining = true;
    setTimeout(() => process.exit(0), DRAIN_MS);
    setImmediate(() => connection.drained().then(() => connection.socket.end(() => process.exit(0))));
    return {};
  },

  async call(params) {
    if (!served) throw new PluginError("FailedPrecondition", "HOST_NOT_INITIALIZED", "initialize comes first");
    if (draining) throw new PluginError("Unavailable", "HOST_DRAINING", "the host is shutting down; nothing was done");
    const { component, method, request, connection = null } = params;
    if (typeof component !== "string" || !served.has(component)) {
      throw invalid("component", `is none of ${[...served].join(", ")}`, "COMPONENT_UNKNOWN");
    }
    const instance = COMPONENTS[component];
    if (typeof method !== "string" || !instance.methods.includes(method)) {
      throw new PluginError("Unsupported", "METHOD_UNKNOWN", `${component} has no method ${String(method).slice(0, 100)}`);
    }
    if (!isObject(request) || !(connection === null || isObject(connection))) {
      throw invalid("request", "must be an object, connection an object or null", "CALL_INVALID");
    }
    return instance[method](request, connection);
  },
};

const at = process.argv.indexOf("--fd");
const fd = at > 0 ? Number(process.argv[at + 1]) : NaN;
if (!Number.isInteger(fd) || fd < 3) {
  console.error("usage: node host.mjs --fd N   (started by the kernel)");
  process.exit(2);
}
for (const signal of ["SIGINT", "SIGHUP"]) process.on(signal, () => {}); // the kernel decides when a host ends
new Connection(new net.Socket({ fd, readable: true, writable: true }), methods, toRpc, () => process.exit(0));
