// What a directory is as a volume on every environment: files by plain names, small ones read and replaced whole, and an end
// that waits for everything under way. How files are opened and made durable is left to the environment.
import assert from 'node:assert/strict'
import { constants } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { DiskFile, FlushMethod, Volume } from '../../environment.js'
import { assertPlainName, listFiles } from './directory-files.js'
import { diskErrorFrom } from './disk-errors.js'
import { OperationGate } from './operation-gate.js'
import { readSmallFile, replaceSmallFile } from './small-file.js'

export const FILE_MODE = 0o600
const SMALL_FILE_BYTES = 1024 * 1024

export abstract class DirectoryVolume<F extends DiskFile> implements Volume {
  abstract readonly direct: boolean
  abstract readonly flushMethod: FlushMethod
  abstract readonly note: string | null
  readonly #gate: OperationGate
  readonly #files = new Set<F>()
  #closing: Promise<void> | null = null

  constructor(readonly directory: string) {
    this.#gate = new OperationGate(`volume ${directory}`)
  }

  abstract syncDirectory(): Promise<void>
  abstract space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }>
  abstract flush(files: readonly DiskFile[]): Promise<void>
  abstract flushGrown(files: readonly DiskFile[]): Promise<void>

  /** @param flags as for open(2). */
  protected abstract openFile(name: string, path: string, flags: number, onClosed: (file: F) => void): Promise<F>

  /** All files are closed: whatever else is open follows. */
  protected abstract closed(): Promise<void>

  list(): Promise<readonly { readonly name: string; readonly byteLength: number }[]> {
    return this.operation('listing', () => listFiles(this.directory))
  }

  open(name: string, options: { readonly create?: boolean } = {}): Promise<DiskFile> {
    assertPlainName(name)
    return this.operation(`opening ${name} in`, async () => {
      const create = options.create === true ? constants.O_CREAT : 0
      const flags = constants.O_RDWR | create | (this.direct ? constants.O_DIRECT : 0)
      const file = await this.openFile(name, join(this.directory, name), flags, (closed) => this.#files.delete(closed))
      this.#files.add(file)
      return file
    })
  }

  remove(name: string): Promise<void> {
    assertPlainName(name)
    return this.operation(`removing ${name} from`, () => rm(join(this.directory, name)))
  }

  readSmall(name: string): Promise<Uint8Array | null> {
    assertPlainName(name)
    return this.operation(`reading ${name} in`, () => readSmallFile(join(this.directory, name)))
  }

  writeSmall(name: string, bytes: Uint8Array): Promise<void> {
    assertPlainName(name)
    assert(bytes.byteLength <= SMALL_FILE_BYTES, 'a small file is at most 1 MiB')
    return this.operation(`replacing ${name} in`, () => replaceSmallFile(this.directory, name, bytes))
  }

  close(): Promise<void> {
    this.#closing ??= this.#closeOnce()
    return this.#closing
  }

  async #closeOnce(): Promise<void> {
    await this.#gate.close()
    try {
      await Promise.all([...this.#files].map((file) => file.close()))
    } finally {
      await this.closed()
    }
  }

  protected async operation<T>(doing: string, work: () => Promise<T>): Promise<T> {
    this.#gate.enter()
    try {
      return await work()
    } catch (cause) {
      throw diskErrorFrom(cause, `${doing} ${this.directory}`)
    } finally {
      this.#gate.leave()
    }
  }
}
