// Columns of numbers that grow. What is many is kept in these, and never as one object each.

/** Numbers in the order in which they were pushed. */
export class Column {
  constructor() {
    this.length = 0;
    this.data = new Float64Array(1024);
  }

  /** @param {number} value */
  push(value) {
    if (this.length === this.data.length) {
      const larger = new Float64Array(this.data.length * 2);
      larger.set(this.data);
      this.data = larger;
    }
    this.data[this.length++] = value;
  }

  /** @param {number} at */
  get(at) {
    return this.data[at];
  }

  /** @param {number} at @param {number} value */
  set(at, value) {
    this.data[at] = value;
  }
}

/**
 * The first index in [0, length) at which `test` holds, where it holds for all after it; or length.
 * @param {number} length
 * @param {(at: number) => boolean} test
 */
export function firstWhere(length, test) {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
