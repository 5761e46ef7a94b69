// A volume as pages that are never changed in place, so that thousands of crash states can share them.

export const PAGE_BYTES = 4096
/** The unit in which a disk keeps its promise when the power fails. */
export const SECTOR_BYTES = 512
export const ZERO_PAGE = new Uint8Array(PAGE_BYTES)

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

  write(position: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      this.setPage((position + at) / PAGE_BYTES, bytes.subarray(at, at + PAGE_BYTES))
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
}
