// The disk of a simulated machine: directories of file images that outlive the processes that write them.
import { FileImage, type TearOdds } from './file-image.js'
import type { SeededRandom } from './random.js'
import type { SimulatedProcess } from './scheduler.js'

type NameChange = { readonly kind: 'create'; readonly image: FileImage } | { readonly kind: 'remove' }

export class DirectoryImage {
  readonly files = new Map<string, FileImage>()
  /** The process that has this directory open as a volume. */
  holder: SimulatedProcess | null = null
  private readonly durableFiles = new Map<string, FileImage>()
  /** Creations and removals that no directory sync has covered, oldest first. */
  private pending: { readonly name: string; readonly change: NameChange }[] = []

  create(name: string): FileImage {
    const image = new FileImage()
    this.files.set(name, image)
    this.pending.push({ name, change: { kind: 'create', image } })
    return image
  }

  remove(name: string): void {
    this.files.delete(name)
    this.pending.push({ name, change: { kind: 'remove' } })
  }

  /** Puts a complete, durable file in place of whatever has the name: rename and directory sync in one. */
  replace(name: string, image: FileImage): void {
    this.sync(this.pending.length)
    this.files.set(name, image)
    this.durableFiles.set(name, image)
  }

  get pendingCount(): number {
    return this.pending.length
  }

  /** Makes the oldest `count` name changes durable. */
  sync(count: number): void {
    for (const { name, change } of this.pending.splice(0, count)) {
      if (change.kind === 'create') this.durableFiles.set(name, change.image)
      else this.durableFiles.delete(name)
    }
  }

  /** Name changes reach the disk in order, as a journal keeps them; how far is chance. */
  losePower(odds: TearOdds, random: SeededRandom): void {
    this.sync(random.integer(0, this.pending.length))
    this.pending = []
    this.files.clear()
    for (const [name, image] of this.durableFiles) this.files.set(name, image)
    for (const image of this.files.values()) image.losePower(odds, random)
  }
}

/** An operation that had not completed when its process died. */
export interface UnfinishedOperation {
  /** Lets through what part of it chance decides. */
  abandon(random: SeededRandom): void
}

export class DiskImage {
  readonly directories = new Map<string, DirectoryImage>()
  readonly unfinished = new Set<UnfinishedOperation>()
  readonly capacityBytes: number

  constructor(capacityBytes: number) {
    this.capacityBytes = capacityBytes
  }

  directory(path: string): DirectoryImage {
    let directory = this.directories.get(path)
    if (directory === undefined) {
      directory = new DirectoryImage()
      this.directories.set(path, directory)
    }
    return directory
  }

  get hasUnflushed(): boolean {
    for (const { files } of this.directories.values())
      for (const file of files.values()) if (file.hasUnflushed) return true
    return false
  }

  get usedBytes(): number {
    let bytes = 0
    for (const { files } of this.directories.values()) for (const { size } of files.values()) bytes += size
    return bytes
  }

  /** The process was killed: what it had handed over takes effect or not, what had completed stays. */
  processDied(random: SeededRandom): void {
    for (const operation of this.unfinished) operation.abandon(random)
    this.unfinished.clear()
    for (const directory of this.directories.values()) {
      if (directory.holder?.alive === false) directory.holder = null
    }
  }

  /** The power failed: besides, everything not flushed is in doubt, sector by sector. */
  lostPower(odds: TearOdds, random: SeededRandom): void {
    this.processDied(random)
    for (const directory of this.directories.values()) directory.losePower(odds, random)
  }
}
