// A volume as pages that are never changed in place, so that thousands of crash states can share them.

export const PAGE_BYTES = 4096
/** The unit in which a disk keeps its promise when the power fails. */
export const SECTOR_BYTES = 512
export const ZERO_PAGE = new Uint8Array(PAGE_BYTES)

export function isZeroPage(page: Uint8Array): boolean {
  return page === ZERO_PAGE || (page.length === PAGE_BYTES && Buffer.compare(page, ZERO_PAGE) === 0)
}

export class PageFile {
  constructor(
    public pages: Uint8Array[] = [],
    public size = 0,
  ) {}

  copy(): PageFile {
    return new PageFile(this.pages.slice(), this.size)
  }

  page(number: number): Uint8Array {
    return this.pages[number] ?? ZERO_PAGE
  }

  grow(byteLength: number): void {
    this.size = Math.max(this.size, byteLength)
  }

  /** `bytes` must not change any more. */
  write(position: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      this.setPage((position + at) / PAGE_BYTES, bytes.subarray(at, at + PAGE_BYTES))
    }
    this.grow(position + bytes.length)
  }

  /** As `write`, of bytes that may change afterwards. Zeros, which most of a filled slot is, cost nothing to keep. */
  writeCopy(position: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const page = bytes.subarray(at, at + PAGE_BYTES)
      this.setPage((position + at) / PAGE_BYTES, isZeroPage(page) ? ZERO_PAGE : page.slice())
    }
    this.grow(position + bytes.length)
  }

  /** `bytes` must not change any more. */
  setPage(number: number, bytes: Uint8Array): void {
    while (this.pages.length <= number) this.pages.push(ZERO_PAGE)
    this.pages[number] = bytes
  }

  /** Bytes read, fewer than asked for only at the end of the file. */
  read(position: number, target: Uint8Array): number {
    const count = Math.max(0, Math.min(target.length, this.size - position))
    for (let at = 0; at < count; at += PAGE_BYTES) {
      const page = this.page((position + at) / PAGE_BYTES)
      target.set(count - at < PAGE_BYTES ? page.subarray(0, count - at) : page, at)
    }
    return count
  }
}

export class VolumeImage {
  constructor(
    readonly files = new Map<string, PageFile>(),
    readonly small = new Map<string, Uint8Array>(),
  ) {}

  copy(): VolumeImage {
    const files = new Map<string, PageFile>()
    for (const [name, file] of this.files) files.set(name, file.copy())
    return new VolumeImage(files, new Map(this.small))
  }

  /**
   * 53 bits that two images share only when a recovery could not tell them apart: names, sizes, every byte. Pages are
   * hashed once, however many images hold them.
   */
  hash(): number {
    let a = 0
    let b = 0
    const add = (seed: Hash, number: number, content: Hash): void => {
      a = (a + scramble(content.a ^ Math.imul(seed.a + number, 0x9e3779b1))) | 0
      b = (b + scramble(content.b ^ Math.imul(seed.b + number, 0x85ebca77))) | 0
    }
    for (const [name, { pages, size }] of this.files) {
      const seed = nameHash(name)
      add(seed, -1 - size, seed)
      for (let i = 0; i < pages.length; i++) {
        const content = contentHash(pages[i]!)
        if (content !== ZERO_HASH) add(seed, i, content)
      }
    }
    for (const [name, bytes] of this.small) add(nameHash(`small/${name}`), bytes.length, contentHash(bytes))
    return (a >>> 0) * 0x200000 + (b >>> 11)
  }
}

interface Hash {
  readonly a: number
  readonly b: number
}

const ZERO_HASH: Hash = { a: 0, b: 0 }
const contents = new WeakMap<Uint8Array, Hash>([[ZERO_PAGE, ZERO_HASH]])
const names = new Map<string, Hash>()

function nameHash(name: string): Hash {
  let hash = names.get(name)
  if (hash === undefined) {
    hash = hashWords(new Uint32Array([...name].map((character) => character.charCodeAt(0))))
    names.set(name, hash)
  }
  return hash
}

function contentHash(bytes: Uint8Array): Hash {
  let hash = contents.get(bytes)
  if (hash === undefined) {
    const aligned = bytes.byteOffset % 4 === 0 && bytes.length % 4 === 0
    if (isZeroPage(bytes)) hash = ZERO_HASH
    else if (aligned) hash = hashWords(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4))
    else hash = hashWords(Uint32Array.from(bytes))
    contents.set(bytes, hash)
  }
  return hash
}

function hashWords(words: Uint32Array): Hash {
  let a = 0x243f6a88 ^ words.length
  let b = 0x13198a2e
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!
    a = Math.imul(a ^ word, 0x85ebca6b)
    a ^= a >>> 15
    b = Math.imul(b ^ word, 0xc2b2ae35)
    b ^= b >>> 13
  }
  return { a: scramble(a), b: scramble(b) }
}

function scramble(word: number): number {
  let mixed = Math.imul(word ^ (word >>> 16), 0x7feb352d)
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b)
  return mixed ^ (mixed >>> 16)
}
