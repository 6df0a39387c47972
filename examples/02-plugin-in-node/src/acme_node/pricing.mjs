// pricing/acme-node: PricingService (hypersdk/api/pricing/v1) over the rows of prices.json. Pure arithmetic, exact.

import { readFileSync } from "node:fs";
import { PluginError, invalid } from "./errors.mjs";
import { ZERO, decimal, isLess, least, minus, plain, plus, quotient, shifted, times, whole } from "./decimal.mjs";
import { isObject } from "./protocol.mjs";
import { page, text } from "./requests.mjs";

const NAME = "prices/acme-node";
const REGION = "moon-1";
const CURRENCY = "USD";
const DATE = "2026-01-01";
const SOURCE = "Acme price list 2026, made up for this example";
const MAX_COUNT = (1n << 63n) - 1n;
const DIGITS = { "GB-month": 9, GB: 9, "1000 requests": 3 }; // a unit is 10^digits bytes or requests
const USES = [
  ["EGRESS", "egress_bytes", "data out to the internet"],
  ["PUT", "put_requests", "PUT requests"],
  ["GET", "get_requests", "GET requests"],
  ["RETRIEVAL", "retrieval_bytes", "data read out of the class"],
];

const ROWS = JSON.parse(readFileSync(new URL("./prices.json", import.meta.url), "utf8")).map((row) => ({
  volume_from: "0", volume_to: "", minimum_days: 0, ...row,
}));

export class Prices {
  methods = ["Health", "ListPriceTables", "GetPriceTable", "ListPrices", "Estimate", "Compare"];

  async Health() {
    return { ok: true, message: "", latency_s: 0, details: { rows: String(ROWS.length) } };
  }

  async ListPriceTables() {
    return { price_tables: [table()], next_page_token: "" };
  }

  async GetPriceTable() {
    return table();
  }

  async ListPrices(request) {
    const region = text(request, "region");
    const wanted = text(request, "storage_class");
    const rows = ROWS.filter((row) => ["", row.region].includes(region))
      .filter((row) => !wanted || ["", wanted].includes(row.storage_class));
    const [items, next_page_token] = page(rows, request);
    return { prices: items.map(price), next_page_token };
  }

  async Estimate(request) {
    return estimate(text(request, "storage_class"), text(request, "region"), usage(request), text(request, "effective_date"));
  }

  async Compare(request) {
    const tier = text(request, "tier");
    const asked = usage(request);
    const region = isObject(request.regions) ? String(request.regions["acme-node"] ?? "") : "";
    let answers;
    try {
      answers = classes()
        .filter((found) => ["", "ACCESS_TIER_UNSPECIFIED", found.tier].includes(tier))
        .map((found) => ({ table: NAME, estimate: estimate(found.id, region, asked, text(request, "effective_date")) }));
    } catch (error) {
      if (!(error instanceof PluginError)) throw error;
      answers = [{ table: NAME, refusal: { reason: error.reason, message: error.message } }];
    }
    const [prices, next_page_token] = page(answers, request);
    return { prices, next_page_token };
  }
}

function table() {
  return {
    name: NAME, display_name: "Prices of Acme Object Storage", currency_code: CURRENCY, regions: [REGION],
    default_region: REGION, storage_classes: classes(), effective_date: DATE,
  };
}

function classes() {
  return ROWS.filter((row) => row.dimension === "STORAGE" && row.volume_from === "0")
    .map((row) => ({ id: row.storage_class, tier: `ACCESS_TIER_${row.tier}`, minimum_days: row.minimum_days }));
}

function price(row) {
  return {
    table: NAME, sku: row.sku, region: row.region, storage_class: row.storage_class,
    tier: `ACCESS_TIER_${row.tier ?? "UNSPECIFIED"}`, dimension: `PRICE_DIMENSION_${row.dimension}`, unit: row.unit,
    price: row.price, currency_code: CURRENCY, effective_date: DATE, source: SOURCE, volume_from: row.volume_from,
    volume_to: row.volume_to, minimum_days: row.minimum_days,
  };
}

const refused = (field, why, reason = "PRICE_REQUEST_INVALID") => invalid(field, why, reason);

// The numbers of a request's `usage`; int64 comes as a string or a number in proto3 JSON.
function usage(request) {
  if (!isObject(request.usage)) throw refused("usage", "must be an object");
  const counts = {};
  for (const field of ["stored_bytes", ...USES.map(([, name]) => name)]) {
    const value = request.usage[field] ?? 0;
    if (!/^\d{1,19}$/.test(String(value)) || BigInt(value) > MAX_COUNT) {
      throw refused(`usage.${field}`, "must be a whole number from 0 to 2^63 - 1");
    }
    counts[field] = BigInt(value);
  }
  const { days, months } = request.usage;
  if (days !== undefined && /^\d{1,5}$/.test(String(days))) counts.months = quotient(BigInt(days) * 12n, 365n);
  else if (typeof months === "string") counts.months = decimal(months);
  if (!counts.months || counts.months.n < 0n || isLess(whole(1200), counts.months)) {
    throw refused("usage.months", "or usage.days must tell for how long, up to 1200 months");
  }
  return counts;
}

function estimate(storageClass, region, asked, day) {
  if (!["", REGION].includes(region)) throw refused("region", `is none of ${REGION}`, "PRICE_REGION_UNKNOWN");
  const known = classes().map((found) => found.id);
  if (!known.includes(storageClass)) {
    throw refused("storage_class", `is none of ${known.join(", ")}`, "PRICE_CLASS_UNKNOWN");
  }
  if (day && !/^\d{4}-\d\d-\d\d$/.test(day)) throw refused("effective_date", "is no day; write YYYY-MM-DD");
  if (day && day < DATE) throw refused("effective_date", `is before the first price, of ${DATE}`);
  const warnings = [];
  const lines = storage(storageClass, asked, warnings);
  for (const [dimension, field, words] of USES) {
    const own = ROWS.filter((row) => row.dimension === dimension && row.storage_class === storageClass);
    const rows = own.length ? own : ROWS.filter((row) => row.dimension === dimension && !row.storage_class);
    if (asked[field] && !rows.length) {
      warnings.push(`the table has no price for ${words} of ${storageClass}; they are not in the total`);
    }
    for (const [row, quantity] of parts(rows, asked[field])) lines.push(line(row, words, quantity));
  }
  const total = lines.reduce((sum, each) => plus(sum, each.exact), ZERO);
  const { tier } = classes().find((found) => found.id === storageClass);
  return {
    table: NAME, region: REGION, storage_class: storageClass, tier, lines: lines.map((each) => each.told),
    total: plain(total), currency_code: CURRENCY, warnings,
  };
}

function storage(storageClass, asked, warnings) {
  const rows = ROWS.filter((row) => row.dimension === "STORAGE" && row.storage_class === storageClass);
  const days = Math.max(...rows.map((row) => row.minimum_days));
  const missing = minus(quotient(BigInt(days) * 12n, 365n), asked.months);
  const cut = parts(rows, asked.stored_bytes);
  const lines = cut.filter(() => asked.months.n > 0n)
    .map(([row, volume]) => line(row, `storage, ${plain(volume)} GB`, times(volume, asked.months)));
  if (days && cut.length && missing.n > 0n) {
    warnings.push(`${storageClass} is charged for at least ${days} days; what is missing is in the total`);
    for (const [row, volume] of cut) lines.push(line(row, `early deletion, up to ${days} days`, times(volume, missing)));
  }
  return lines;
}

// The units of `count` bytes or requests that fall to each row's volume.
function parts(rows, count) {
  const out = [];
  for (const row of rows) {
    const requests = row.unit.endsWith("requests");
    const volume = shifted(whole(count), requests ? 0 : DIGITS[row.unit]); // volumes are told in GB or single requests
    const upper = row.volume_to ? least(volume, decimal(row.volume_to)) : volume;
    const part = minus(upper, decimal(row.volume_from));
    if (part.n > 0n) out.push([row, requests ? shifted(part, DIGITS[row.unit]) : part]);
  }
  return out;
}

function line(row, description, quantity) {
  const exact = times(quantity, decimal(row.price));
  return {
    exact,
    told: {
      sku: row.sku, description, dimension: `PRICE_DIMENSION_${row.dimension}`, quantity: plain(quantity),
      unit: row.unit, unit_price: row.price, amount: plain(exact), effective_date: DATE, source: SOURCE,
    },
  };
}
