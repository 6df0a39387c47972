// A client that knows only the repository's proto files: lists, submits, watches, reads error details.
// Arguments: JSON {target, caFile?, tokenFile?, protoDirs, imagePath, outPath}. Prints what it saw as JSON.
import fs from 'node:fs';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const options = JSON.parse(process.argv[2]);
const files = ['jobs', 'plugins', 'formats', 'system', 'events'].map((noun) => `hypersdk/api/${noun}/v1/${noun}.proto`);
const definition = loader.loadSync(files, {
  includeDirs: options.protoDirs, keepCase: true, longs: Number, enums: String, defaults: true,
});
const api = grpc.loadPackageDefinition(definition);
const credentials = options.caFile
  ? grpc.credentials.createSsl(fs.readFileSync(options.caFile))
  : grpc.credentials.createInsecure();
const metadata = new grpc.Metadata();
if (options.tokenFile) metadata.set('authorization', `Bearer ${fs.readFileSync(options.tokenFile, 'utf8').trim()}`);

const service = (noun, name) => new api.hypersdk.api[noun].v1[name](options.target, credentials);
const call = (client, method, request) => new Promise((resolve, reject) => {
  const deadline = new Date(Date.now() + 30_000);
  client[method](request, metadata, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
});

// google.rpc.Status travels in the trailer; its details are Any messages.
function details(error) {
  const [raw] = error.metadata.get('grpc-status-details-bin');
  const found = {};
  for (const any of decoders.Status(raw).details) {
    const type = any.type_url.split('.').pop();
    found[type] = decoders[type](any.value);
  }
  return { code: error.code, found };
}

// proto-loader has no decoder for messages outside of calls; these are read field by field, as the encoding's specification says.
function* fields(bytes) {
  let at = 0;
  const varint = () => { let value = 0; let shift = 0; for (;;) { const b = bytes[at++]; value += (b & 127) * 2 ** shift; if (b < 128) return value; shift += 7; } };
  while (at < bytes.length) {
    const key = varint();
    if ((key & 7) === 2) { const length = varint(); yield [key >> 3, bytes.subarray(at, at + length)]; at += length; } else { yield [key >> 3, varint()]; }
  }
}
const text = (bytes) => Buffer.from(bytes).toString('utf8');
const decoders = {
  Status: (bytes) => {
    const out = { code: 0, message: '', details: [] };
    for (const [number, value] of fields(bytes)) {
      if (number === 1) out.code = value;
      if (number === 2) out.message = text(value);
      if (number === 3) { const any = Object.fromEntries(fields(value)); out.details.push({ type_url: text(any[1]), value: any[2] ?? new Uint8Array() }); }
    }
    return out;
  },
  ErrorInfo: (bytes) => { const m = Object.fromEntries(fields(bytes)); return { reason: text(m[1]), domain: text(m[2]) }; },
  BadRequest: (bytes) => ({ field_violations: [...fields(bytes)].map(([, v]) => { const m = Object.fromEntries(fields(v)); return { field: text(m[1]), description: text(m[2]) }; }) }),
  Help: () => ({}), RetryInfo: () => ({}), PreconditionFailure: () => ({}), RequestInfo: () => ({}), LocalizedMessage: () => ({}),
};

const struct = (object) => ({ fields: Object.fromEntries(Object.entries(object).map(([k, v]) => [k, { stringValue: v, kind: 'stringValue' }])) });
const jobs = service('jobs', 'JobService');
const seen = {};

seen.info = await call(service('system', 'SystemService'), 'GetSystemInfo', {});
seen.plugins = (await call(service('plugins', 'PluginService'), 'ListPlugins', {})).plugins.map((p) => p.name);
seen.formats = (await call(service('formats', 'FormatService'), 'ListFormats', {})).formats.map((f) => f.name);

const job = { task: 'convert', labels: { from: 'node' }, spec: struct({ source_path: options.imagePath, target_path: options.outPath, format: 'qcow2' }) };
const created = await call(jobs, 'CreateJob', { job, request_id: crypto.randomUUID() });
seen.created = { name: created.name, state: created.state };

seen.watched = await new Promise((resolve, reject) => {
  const events = [];
  const stream = jobs.WatchJobs({ names: [created.name], states_only: true }, metadata, { deadline: new Date(Date.now() + 60_000) });
  stream.on('data', (message) => {
    if (!message.job) return;
    events.push([message.event_type, message.job.state, message.revision]);
    if (['JOB_STATE_SUCCEEDED', 'JOB_STATE_FAILED', 'JOB_STATE_CANCELLED'].includes(message.job.state)) { stream.cancel(); resolve(events); }
  });
  stream.on('error', (error) => (error.code === grpc.status.CANCELLED ? undefined : reject(error)));
});

seen.listed = (await call(jobs, 'ListJobs', { filter: 'labels.from = "node"' })).jobs.map((j) => [j.name, j.state]);
seen.invalid = await call(jobs, 'CreateJob', { job: { task: 'NOT A TASK' } }).then(() => null, details);
seen.missing = await call(jobs, 'GetJob', { name: 'jobs/no-such-job' }).then(() => null, details);
if (options.tokenFile) {
  metadata.remove('authorization');
  seen.stranger = await call(jobs, 'ListJobs', {}).then(() => null, details);
}
console.log(JSON.stringify(seen));
process.exit(0);
