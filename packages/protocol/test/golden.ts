// Golden bytes as text: written with a note for every field, read back without the notes.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Writer } from '@millrace/protocol'
import { hexBytes } from './samples.js'

export const GOLDEN_FOLDER = fileURLToPath(new URL('./golden/', import.meta.url))

/** Set to rewrite the golden files from what the code does now; the change is then reviewed as a diff. */
export const REWRITE = process.env.MILLRACE_REWRITE_GOLDEN === '1'

const BYTES_PER_LINE = 16
const HEX_WIDTH = BYTES_PER_LINE * 3

/** Bytes with what they mean. */
export interface Field {
  readonly bytes: Uint8Array
  readonly note: string
}

export interface GoldenEntry {
  readonly title: string
  readonly fields: readonly Field[]
}

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')

function fieldLines({ bytes, note }: Field): string[] {
  const lines: string[] = []
  for (let at = 0; at < bytes.length || at === 0; at += BYTES_PER_LINE) {
    const digits = hex(bytes.subarray(at, at + BYTES_PER_LINE)).padEnd(HEX_WIDTH)
    lines.push(`${digits}# ${at === 0 ? note : '…'}`.trimEnd())
  }
  return lines
}

/** A file of entries: `== title`, then lines of hexadecimal bytes, everything from `#` on being a note. */
export function formatGolden(comment: readonly string[], entries: readonly GoldenEntry[]): string {
  const lines = comment.map((line) => `# ${line}`)
  for (const entry of entries) lines.push('', `== ${entry.title}`, ...entry.fields.flatMap(fieldLines))
  return `${lines.join('\n')}\n`
}

/** The bytes of every entry of a golden file, by title. */
export function parseGolden(text: string): Map<string, Uint8Array> {
  const entries = new Map<string, string[]>()
  let current: string[] | null = null
  for (const line of text.split('\n')) {
    if (line.startsWith('== ')) {
      current = []
      entries.set(line.slice(3), current)
    } else current?.push(line.replace(/#.*$/, ''))
  }
  return new Map([...entries].map(([title, lines]) => [title, hexBytes(lines.join(''))]))
}

/** The golden file's text; rewritten first when that was asked for. */
export function goldenText(file: string, current: string): string {
  const path = `${GOLDEN_FOLDER}${file}`
  if (REWRITE) writeFileSync(path, current)
  return readFileSync(path, 'utf8')
}

/** Writes like its parent and keeps a note of every field. */
export class NotingWriter extends Writer {
  readonly fields: Field[] = []
  #depth = 0

  #note(write: () => void, note: string): this {
    const from = this.length
    this.#depth++
    write()
    this.#depth--
    if (this.#depth === 0) this.fields.push({ bytes: this.written().slice(from), note })
    return this
  }

  override u8(value: number): this {
    return this.#note(() => super.u8(value), `u8 ${value}`)
  }

  override u16(value: number): this {
    return this.#note(() => super.u16(value), `u16 ${value}`)
  }

  override u32(value: number): this {
    return this.#note(() => super.u32(value), `u32 ${value}`)
  }

  override u64(value: number): this {
    return this.#note(() => super.u64(value), `u64 ${value}`)
  }

  override u64OrNull(value: number | null): this {
    return this.#note(() => super.u64OrNull(value), value === null ? 'u64 none' : `u64 ${value}`)
  }

  override bits64(value: bigint): this {
    return this.#note(() => super.bits64(value), `id64 ${value.toString(16)}`)
  }

  override bytes(bytes: Uint8Array): this {
    return bytes.length === 0 ? this : this.#note(() => super.bytes(bytes), `${bytes.length} bytes`)
  }

  override string(text: string): this {
    return this.#note(() => super.string(text), `string ${JSON.stringify(text)}`)
  }

  override uuid(text: string): this {
    return this.#note(() => super.uuid(text), '16 bytes')
  }

  /** The length in front stands in a field of its own. */
  override fixed(write: () => void): this {
    const at = this.fields.length
    const from = this.length
    super.fixed(write)
    const length = this.length - from - 2
    const note = `u16 ${length}: length of the fixed part`
    this.fields.splice(at, 0, { bytes: this.written().slice(from, from + 2), note })
    return this
  }
}
