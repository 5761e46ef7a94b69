// The wire between the kernel and a FUSE file system (version 7.31): requests read, answers made. Only what one flat
// directory of regular files needs.
import { spawn } from 'node:child_process'
import { close, closeSync, mkdtempSync, openSync, read, rmdirSync, write } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const OPERATIONS = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  unlink: 10,
  rename: 12,
  link: 13,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  fsyncdir: 30,
  create: 35,
  interrupt: 36,
  batchForget: 42,
  fallocate: 43,
  rename2: 45,
} as const

/** Operations the kernel wants no answer to. */
const UNANSWERED: ReadonlySet<number> = new Set([OPERATIONS.forget, OPERATIONS.batchForget, OPERATIONS.interrupt])

export const ERRNO = { ENOENT: 2, EIO: 5, EEXIST: 17, ENOSPC: 28, EROFS: 30, ENOSYS: 38 } as const
export type ErrnoName = keyof typeof ERRNO

export const ROOT = 1
const HEADER_BYTES = 40
const MAX_WRITE_BYTES = 1024 * 1024
const REQUEST_BYTES = MAX_WRITE_BYTES + 64 * 1024
const ASYNC_READ = 1 << 0
const BIG_WRITES = 1 << 5
/**
 * Without it the kernel keeps who submits a direct read or write waiting for the answer, also through io_uring. With it
 * a short write becomes EIO on its way through the kernel.
 */
const ASYNC_DIRECT_IO = 1 << 15
const PARALLEL_DIRECTORY_OPERATIONS = 1 << 18
const MAX_PAGES = 1 << 22
const FOPEN_DIRECT_IO = 1 << 0
const FOPEN_NOFLUSH = 1 << 5
const DIRECTORY_MODE = 0o40700
const FILE_MODE = 0o100600

/** One request. `body` is what follows the header and belongs to whoever is asked. */
export interface FuseRequest {
  readonly operation: number
  readonly unique: bigint
  readonly node: number
  readonly body: Buffer
}

/** What the kernel is told: an error, or the bytes of an answer. */
export type FuseAnswer = ErrnoName | Buffer

export interface Attributes {
  readonly node: number
  readonly byteLength: number
  readonly allocatedBytes: number
  readonly links: number
}

export interface FuseMount {
  readonly directory: string
  answer(request: FuseRequest, answer: FuseAnswer): void
  /** Ends the file system: everything that waits for it fails. */
  end(): Promise<void>
}

/** Mounts a file system that `serve` answers for, or says why that is not possible here (no root, no FUSE). */
export async function mountFuse(
  name: string,
  asyncDirect: boolean,
  serve: (request: FuseRequest) => void,
): Promise<FuseMount | { readonly refused: string }> {
  let device: number
  try {
    device = openSync('/dev/fuse', 'r+')
  } catch (error) {
    return { refused: String(error) }
  }
  const directory = mkdtempSync(join(tmpdir(), `millrace-${name}-`))
  const options = 'fd=3,rootmode=40000,user_id=0,group_id=0'
  const refused = await command('mount', ['-i', '-t', 'fuse', '-o', options, name, directory], device)
  if (refused !== null) {
    closeSync(device)
    rmdirSync(directory)
    return { refused }
  }
  const ended = receive(device, asyncDirect, serve)
  return {
    directory,
    answer: (request, answer) => void reply(device, request.unique, answer),
    async end() {
      await command('umount', ['-f', '-l', directory])
      await ended
      rmdirSync(directory)
    },
  }
}

/** Runs a program without blocking this thread, which has a file system to serve. @returns why it failed, or null. */
export function command(program: string, args: readonly string[], device?: number): Promise<string | null> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe', device ?? 'ignore'] })
    let words = ''
    child.stderr?.on('data', (chunk: Buffer) => {
      words += chunk.toString()
    })
    child.once('error', (error) => resolve(String(error)))
    child.once('close', (code) => resolve(code === 0 ? null : `${program} ended with ${code}: ${words.trim()}`))
  })
}

/** What a program writes; empty when it fails. */
export function outputOf(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    let words = ''
    child.stdout.on('data', (chunk: Buffer) => {
      words += chunk.toString()
    })
    child.once('error', () => resolve(''))
    child.once('close', () => resolve(words.trim()))
  })
}

/** Reads requests until the file system has ended. */
function receive(device: number, asyncDirect: boolean, serve: (request: FuseRequest) => void): Promise<void> {
  return new Promise((resolve) => {
    const bytes = Buffer.alloc(REQUEST_BYTES)
    const next = (): void =>
      read(device, bytes, 0, bytes.length, null, (error, length) => {
        // ENODEV: unmounted. ENOENT: the request was taken back before it could be read.
        if (error !== null && error.code === 'ENOENT') return next()
        if (error !== null) return close(device, () => resolve())
        const request = requestIn(Buffer.from(bytes.subarray(0, length)))
        if (request.operation === OPERATIONS.init) reply(device, request.unique, initAnswer(asyncDirect))
        else if (!UNANSWERED.has(request.operation)) serve(request)
        next()
      })
    next()
  })
}

function requestIn(bytes: Buffer): FuseRequest {
  return {
    operation: bytes.readUInt32LE(4),
    unique: bytes.readBigUInt64LE(8),
    node: Number(bytes.readBigUInt64LE(16)),
    body: bytes.subarray(HEADER_BYTES),
  }
}

function reply(device: number, unique: bigint, answer: FuseAnswer): void {
  const body = typeof answer === 'string' ? Buffer.alloc(0) : answer
  const header = Buffer.alloc(16)
  header.writeUInt32LE(16 + body.length, 0)
  header.writeInt32LE(typeof answer === 'string' ? -ERRNO[answer] : 0, 4)
  header.writeBigUInt64LE(unique, 8)
  // Refused when nobody waits any more: the process was killed, or the file system has ended.
  write(device, Buffer.concat([header, body]), () => {})
}

function initAnswer(asyncDirect: boolean): Buffer {
  const flags = ASYNC_READ | BIG_WRITES | PARALLEL_DIRECTORY_OPERATIONS | MAX_PAGES
  const body = Buffer.alloc(64)
  body.writeUInt32LE(7, 0)
  body.writeUInt32LE(31, 4)
  body.writeUInt32LE(MAX_WRITE_BYTES, 8)
  body.writeUInt32LE(asyncDirect ? flags | ASYNC_DIRECT_IO : flags, 12)
  body.writeUInt16LE(64, 16)
  body.writeUInt16LE(48, 18)
  body.writeUInt32LE(MAX_WRITE_BYTES, 20)
  body.writeUInt32LE(1, 24)
  body.writeUInt16LE(MAX_WRITE_BYTES / 4096, 28)
  return body
}

// ---------------------------------------------------------------- answers

function writeAttributes(body: Buffer, at: number, { node, byteLength, allocatedBytes, links }: Attributes): void {
  body.writeBigUInt64LE(BigInt(node), at)
  body.writeBigUInt64LE(BigInt(byteLength), at + 8)
  body.writeBigUInt64LE(BigInt(allocatedBytes / 512), at + 16)
  body.writeUInt32LE(node === ROOT ? DIRECTORY_MODE : FILE_MODE, at + 60)
  body.writeUInt32LE(links, at + 64)
  body.writeUInt32LE(4096, at + 80)
}

/** Attributes the kernel may not keep. */
export function attributesAnswer(attributes: Attributes): Buffer {
  const body = Buffer.alloc(104)
  writeAttributes(body, 16, attributes)
  return body
}

/** A name the kernel may not keep. */
export function entryAnswer(attributes: Attributes): Buffer {
  const body = Buffer.alloc(128)
  body.writeBigUInt64LE(BigInt(attributes.node), 0)
  writeAttributes(body, 40, attributes)
  return body
}

/**
 * An open file; close(2) of it does not ask the file system, so that a hanging one lets processes end.
 * @param pastCache whether its reads and writes never go through the page cache: there the kernel goes on by itself behind a
 * short one, also for who asked for direct I/O, and takes a short answer to a read for the end of the file, behind which it
 * puts zeros.
 */
export function openAnswer(pastCache: boolean): Buffer {
  const body = Buffer.alloc(16)
  body.writeUInt32LE(pastCache ? FOPEN_DIRECT_IO | FOPEN_NOFLUSH : FOPEN_NOFLUSH, 8)
  return body
}

export function writtenAnswer(byteLength: number): Buffer {
  const body = Buffer.alloc(8)
  body.writeUInt32LE(byteLength, 0)
  return body
}

export function spaceAnswer(totalBlocks: number, freeBlocks: number): Buffer {
  const body = Buffer.alloc(80)
  body.writeBigUInt64LE(BigInt(totalBlocks), 0)
  body.writeBigUInt64LE(BigInt(freeBlocks), 8)
  body.writeBigUInt64LE(BigInt(freeBlocks), 16)
  body.writeUInt32LE(4096, 40)
  body.writeUInt32LE(255, 44)
  body.writeUInt32LE(4096, 48)
  return body
}

/** The entries of a directory from position `from` on, as many as fit. */
export function directoryAnswer(
  entries: readonly { readonly name: string; readonly node: number }[],
  from: number,
  mostBytes: number,
): Buffer {
  const parts: Buffer[] = []
  let bytes = 0
  for (const [i, { name, node }] of entries.entries()) {
    if (i < from) continue
    const text = Buffer.from(name)
    const part = Buffer.alloc((24 + text.length + 7) & ~7)
    if (bytes + part.length > mostBytes) break
    part.writeBigUInt64LE(BigInt(node), 0)
    part.writeBigUInt64LE(BigInt(i + 1), 8)
    part.writeUInt32LE(text.length, 16)
    part.writeUInt32LE(8 /* DT_REG */, 20)
    text.copy(part, 24)
    parts.push(part)
    bytes += part.length
  }
  return Buffer.concat(parts)
}
