// Chance under a seed: one generator per purpose, so that a draw more in one place shifts nothing elsewhere.

/** Mixes text into four words (cyrb128): seeds of generators are names, such as "42/network". */
function hashText(text: string): [number, number, number, number] {
  let a = 1779033703
  let b = 3144134277
  let c = 1013904242
  let d = 2773480762
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    a = b ^ Math.imul(a ^ code, 597399067)
    b = c ^ Math.imul(b ^ code, 2869860233)
    c = d ^ Math.imul(c ^ code, 951274213)
    d = a ^ Math.imul(d ^ code, 2716044179)
  }
  a = Math.imul(c ^ (a >>> 18), 597399067)
  b = Math.imul(d ^ (b >>> 22), 2869860233)
  c = Math.imul(a ^ (c >>> 17), 951274213)
  d = Math.imul(b ^ (d >>> 19), 2716044179)
  return [(a ^ b ^ c ^ d) >>> 0, (b ^ a) >>> 0, (c ^ a) >>> 0, (d ^ a) >>> 0]
}

/** sfc32 (Chris Doty-Humphrey, PractRand): small, fast, and good enough for everything drawn here. */
export class SeededRandom {
  private a: number
  private b: number
  private c: number
  private d: number

  constructor(readonly name: string) {
    ;[this.a, this.b, this.c, this.d] = hashText(name)
    for (let i = 0; i < 12; i++) this.uint32()
  }

  /** A generator of its own, the same however much was drawn from this one. */
  split(purpose: string): SeededRandom {
    return new SeededRandom(`${this.name}/${purpose}`)
  }

  uint32(): number {
    const sum = (((this.a + this.b) | 0) + this.d) | 0
    this.d = (this.d + 1) | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = (this.c + (this.c << 3)) | 0
    this.c = (this.c << 21) | (this.c >>> 11)
    this.c = (this.c + sum) | 0
    return sum >>> 0
  }

  /** Uniform in [0, 1). */
  fraction(): number {
    return this.uint32() / 4294967296
  }

  chance(probability: number): boolean {
    return this.fraction() < probability
  }

  /** A uniform integer in [from, to], both included. */
  integer(from: number, to: number): number {
    return from + Math.floor(this.fraction() * (to - from + 1))
  }

  /** Uniform in [from, to). */
  between(from: number, to: number): number {
    return from + this.fraction() * (to - from)
  }

  /** Uniform in the logarithm: each order of magnitude of a rate or a duration gets its share. */
  logBetween(from: number, to: number): number {
    return Math.exp(this.between(Math.log(from), Math.log(to)))
  }

  exponential(mean: number): number {
    return -Math.log(1 - this.fraction()) * mean
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.integer(0, choices.length - 1)]!
  }

  fill(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.byteLength; i++) bytes[i] = this.uint32() >>> 24
  }
}
