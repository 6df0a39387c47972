// Exact decimal numbers: n × 10^-s with n a BigInt. Prices are never floats.

const DIVISION_DIGITS = 60n;

export const ZERO = { n: 0n, s: 0n };

export function decimal(text) {
  const match = /^(-?)(\d{1,40})(?:\.(\d{1,40}))?$/.exec(String(text));
  if (!match) return null;
  const [, sign, whole, part = ""] = match;
  return { n: BigInt(sign + whole + part), s: BigInt(part.length) };
}

export const whole = (count) => ({ n: BigInt(count), s: 0n });
export const times = (a, b) => ({ n: a.n * b.n, s: a.s + b.s });
export const shifted = (a, digits) => ({ n: a.n, s: a.s + BigInt(digits) }); // a / 10^digits

export function plus(a, b) {
  const s = a.s > b.s ? a.s : b.s;
  return { n: a.n * 10n ** (s - a.s) + b.n * 10n ** (s - b.s), s };
}

export const minus = (a, b) => plus(a, { n: -b.n, s: b.s });
export const isLess = (a, b) => minus(a, b).n < 0n;
export const least = (a, b) => (isLess(b, a) ? b : a);

// Of a whole number by a whole number; cut after 60 places.
export const quotient = (a, b) => ({ n: (BigInt(a) * 10n ** DIVISION_DIGITS) / BigInt(b), s: DIVISION_DIGITS });

export function plain({ n, s }) {
  const digits = (n < 0n ? -n : n).toString().padStart(Number(s) + 1, "0");
  const cut = digits.length - Number(s);
  const part = digits.slice(cut).replace(/0+$/, "");
  return (n < 0n ? "-" : "") + digits.slice(0, cut) + (part ? `.${part}` : "");
}
